// Questions to the control plane, with the person's token, which is kept in memory alone.

let token = "";

export function setToken(text) {
  token = text.trim();
}

export class Refused extends Error {
  constructor(status, text) {
    super(text || `HTTP ${status}`);
    this.status = status;
  }
}

async function answer(path, query, signal) {
  const address = query ? `${path}?${new URLSearchParams(query)}` : path;
  const headers = token ? { Authorization: `Bearer ${token}` } : {};
  const found = await fetch(address, { headers, signal, cache: "no-store" });
  if (!found.ok) throw new Refused(found.status, (await found.text()).trim());
  return found;
}

export const ask = async (path, query) => (await answer(path, query)).json();

// Server-sent events. The browser's own EventSource cannot show a token.
export async function follow(path, heard, signal) {
  const reader = (await answer(path, null, signal)).body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  for (;;) {
    const { done, value } = await reader.read();
    if (done) return;
    const parts = (rest + value).split("\n\n");
    rest = parts.pop();
    for (const part of parts) {
      const lines = part.split("\n");
      const name = lines.find((line) => line.startsWith("event: "));
      const data = lines.find((line) => line.startsWith("data: "));
      heard(name ? name.slice(7) : "", data ? JSON.parse(data.slice(6)) : null);
    }
  }
}
