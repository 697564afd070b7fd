#!/bin/sh
# A worker in a page of shell: four calls of HTTP and no library, for hosts and languages that have no other.
#
#   worker.sh NAME [URL]        runs jobs, one at a time, until SIGINT or SIGTERM; then it ends the one that runs
#
# It needs curl and a POSIX system, and runs on the scheduler's own host or at the end of a tunnel to it. What the
# scheduler takes care of, so that a worker need not:
#
#   - An answer of `next` that is lost on the way is given again, until its run is posted `running`.
#   - A worker that is silent for longer than the worker timeout is inactive, and its run starts again elsewhere.
#     If it was only slow, its late result is refused (409) and changes nothing.
#   - The same result posted twice is no error, so a post without an answer is simply sent again.
#
# It is an example to read. bin/worker also keeps results while the scheduler is away, bounds output, ends what a job
# leaves behind, obeys timeouts and cancels, and runs many jobs at a time.

name=${1:?usage: worker.sh NAME [URL]}
url=${2:-http://localhost:8080}
work=$(mktemp -d) || exit 1
stopping=
trap 'stopping=yes' INT TERM
trap 'kill $heart 2>/dev/null; rm -rf "$work"' EXIT

# post PATH: sends what comes on stdin and prints the status of the answer, which is in $work/answer. Fails without one.
post() {
    curl -sS -m 30 -o "$work/answer" -w '%{http_code}' -H 'Content-Type: application/json' --data-binary @- "$url$1"
}

register() {
    # It runs tasks of arrays, which need their index or their entry.
    printf '{"worker_id": "%s", "can": ["task", "entry"]}' "$name" | post /workers/register
}

# quoted: text on stdin as the inside of a JSON string. Bytes that are no text, and control characters, are left out.
quoted() {
    { cat && echo; } | iconv -c -f UTF-8 -t UTF-8 | LC_ALL=C tr -d '\000-\010\013\014\016-\037' | LC_ALL=C awk '{
        gsub(/\\/, "\\\\"); gsub(/"/, "\\\""); gsub(/\t/, "\\t"); gsub(/\r/, "\\r")
        printf "%s%s", (NR > 1 ? "\\n" : ""), $0
    }'
}

# number FIELD: a whole number in the answer of `next`. No text can look like a field: its quotation marks are escaped.
number() {
    sed -n 's/.*[{,]"'"$1"'":\([0-9]*\)[,}].*/\1/p' "$work/job"
}

# text FIELD: a text in the answer of `next`. Only control characters come as \uXXXX, all others as they are.
text() {
    LC_ALL=C awk -v begin="[{,]\"$1\":\"" '
        function hex(digits, i, value) {
            for (i = 1; i <= 4; i++) value = value * 16 + index("0123456789abcdef", tolower(substr(digits, i, 1))) - 1
            return value
        }
        BEGIN { plain["n"] = "\n"; plain["t"] = "\t"; plain["r"] = "\r"; plain["b"] = "\b"; plain["f"] = "\f" }
        match($0, begin) {
            $0 = substr($0, RSTART + RLENGTH)
            while (match($0, /["\\]/) && substr($0, RSTART, 1) == "\\") {
                printf "%s", substr($0, 1, RSTART - 1)
                letter = substr($0, RSTART + 1, 1)
                $0 = substr($0, RSTART + 2)
                if (letter == "u") { printf "%c", hex($0); $0 = substr($0, 5) }
                else printf "%s", (letter in plain) ? plain[letter] : letter
            }
            printf "%s", substr($0, 1, RSTART - 1)
        }' "$work/job"
}

until status=$(register) && [ "$status" = 200 ]; do
    # The name is no name (400), or a worker that has it is connected over ZeroMQ (409). All else passes.
    case $status in 4*) cat "$work/answer" >&2; exit 1 ;; esac
    [ -z "$stopping" ] || exit 0
    sleep 1
done

# The heart beats beside the job, which may take longer than the scheduler's patience, and ends with this shell.
while kill -0 $$ 2>/dev/null; do
    printf '{"worker_id": "%s"}' "$name" | curl -sS -m 5 -o /dev/null --data-binary @- "$url/workers/heartbeat"
    sleep "${HEARTBEAT_S:-10}"
done &
heart=$!

while [ -z "$stopping" ]; do
    # Asking assigns: what comes is ours.
    status=$(curl -sS -m 30 -o "$work/job" -w '%{http_code}' "$url/workers/$name/next") || status=000
    case $status in
    200) job=$(number id) run=$(number run_id) ;;
    404) job='' && register >/dev/null ;; # the scheduler does not know us: it has another database now
    *) job='' ;;
    esac
    [ -n "$job" ] || { sleep "${POLL_S:-5}"; continue; }

    # Without 200 the run is not ours any more: cancelled, or lost to another while this was on its way.
    status=$(printf '{"worker_id": "%s", "run_id": %d, "status": "running"}' "$name" "$run" | post "/jobs/$job/log")
    [ "$status" = 200 ] || continue

    entry=$(text entry && echo .)
    ZSCHED_TASK=$(number task) ZSCHED_ENTRY=${entry%.} sh -c -- "$(text command)" </dev/null >"$work/stdout" 2>"$work/stderr"
    code=$?
    [ "$code" = 0 ] && end=success || end=failed
    {
        printf '{"worker_id": "%s", "run_id": %d, "status": "%s", "exit_code": %d' "$name" "$run" "$end" "$code"
        printf ', "logs": "'
        { printf 'STDOUT:\n' && cat "$work/stdout" && printf '\n\nSTDERR:\n' && cat "$work/stderr"; } | quoted
        printf '"}'
    } >"$work/report"
    # Until it is stored (200) or refused (4xx); 503 says try again.
    until status=$(post "/jobs/$job/log" <"$work/report") && [ "$status" != 503 ]; do sleep 1; done
done
