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

tick() { # text, usual, began: until it is killed or the script is gone; without a child that would outlive it
  local passed bar quiet every=30 since=0
  trap - EXIT
  [ ! -t 2 ] || every=1
  exec {quiet}<> <(:)
  while kill -0 $$ 2>/dev/null; do
    read -r -t 1 -u "$quiet" || true
    since=$((since + 1))
    [ $((since % every)) = 0 ] || continue
    passed=$((SECONDS - $3))
    if [ -t 2 ]; then
      bar=$(printf '%*s' $(($2 == 0 ? 0 : passed < $2 ? 20 * passed / $2 : 19)) '')
      [ "$2" = 0 ] || printf -v bar ' [%-20s]' "${bar// /#}"
      printf '\r\033[K%s%s %s%s' "$1" "$bar" "$(clock $passed)" "$([ "$2" = 0 ] || echo " of about $(clock "$2")")" >&2
    else
      echo "$1: $(clock $passed)$([ "$2" = 0 ] || echo " of about $(clock "$2")")" >&2
    fi
  done
}
