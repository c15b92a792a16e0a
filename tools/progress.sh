# Sourced by the scripts beside it. What takes long says what it is, how long it usually takes and how long it has taken:
# on a terminal a bar that moves every second, elsewhere a line every half minute. On standard error.

clock() { printf '%d:%02d' $(($1 / 60)) $(($1 % 60)); } # seconds

# shown NAME WHAT USUAL COMMAND...: runs the command, in the foreground; USUAL: seconds on two cores, 0 where that is not known.
shown() {
  local name=$1 what=$2 usual=$3 began=$SECONDS ticker code=0 usual_text=
  shift 3
  [ "$usual" = 0 ] || usual_text=" (usually about $(clock "$usual"))"
  [ -t 2 ] || echo "$name: $what$usual_text" >&2
  tick "$name: $what" "$usual" "$began" &
  ticker=$!
  "$@" || code=$?
  kill "$ticker" 2>/dev/null || true
  wait "$ticker" 2>/dev/null || true
  [ ! -t 2 ] || printf '\r\033[K%s: %s: %s\n' "$name" "$what" "$(clock $((SECONDS - began)))" >&2
  return $code
}

tick() { # text, usual, began: until it is killed; without a child that would outlive it
  local passed done_of=20 bar quiet
  trap - EXIT
  exec {quiet}<> <(:)
  while true; do
    if [ -t 2 ]; then read -r -t 1 -u "$quiet" || true; else read -r -t 30 -u "$quiet" || true; fi
    passed=$((SECONDS - $3))
    if [ ! -t 2 ]; then
      echo "$1: $(clock $passed)$([ "$2" = 0 ] || echo " of about $(clock "$2")")" >&2
      continue
    fi
    bar=
    if [ "$2" -gt 0 ]; then
      done_of=$((passed < $2 ? 20 * passed / $2 : 19))
      bar=$(printf '%*s' "$done_of" '' | tr ' ' '#')
      bar=$(printf ' [%-20s]' "$bar")
    fi
    printf '\r\033[K%s%s %s%s' "$1" "$bar" "$(clock $passed)" "$([ "$2" = 0 ] || echo " of about $(clock "$2")")" >&2
  done
}
