#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-or-later
# What mcctl asks and prints, against recorded answers: test-mcctl.sh MCCTL FAKE-MCD DIRECTORY
# Every case runs mcctl and compares its exit code, stdout, stderr and the requests that reached
# the daemon with DIRECTORY/NAME.expected.  UPDATE=1 writes those files anew: read the diff then.
set -u
mcctl=$1 fake=$2 dir=$3
tmp=$(mktemp -d /tmp/mcd-mcctl-XXXXXX)
pid=''
trap '[ -n "$pid" ] && kill "$pid"; rm -rf "$tmp"' EXIT
trap 'exit 1' INT TERM
passed=0 failed=0
sock=$tmp/control.sock

mkfifo "$tmp/ready"
"$fake" "$sock" "$dir/answers.json" "$tmp/requests" >"$tmp/ready" &
pid=$!
read -r word <"$tmp/ready"
[ "$word" = ready ] || exit 1

# Paths and times of this run become names.
settle() {
	sed -e "s|$tmp|TMP|g" -e 's/20[0-9-]*T[0-9:.]*Z/DATE/' -e 's/"time":[0-9]*/"time":0/'
}

verdict() { # NAME
	if [ "${UPDATE-}" = 1 ]; then
		cp "$tmp/got" "$dir/$1.expected"
	elif ! diff -u "$dir/$1.expected" "$tmp/got"; then
		failed=$((failed + 1))
		echo "FAILED: $1"
		return
	fi
	passed=$((passed + 1))
}

# Runs mcctl with the words as they are.
bare() { # NAME WORD...
	name=$1
	shift
	: >"$tmp/requests"
	"$mcctl" "$@" >"$tmp/out" 2>"$tmp/err" </dev/null
	code=$?
	{
		echo "exit $code"
		sed 's/^/out: /' "$tmp/out"
		sed 's/^/err: /' "$tmp/err"
		sed 's/^/asked: /' "$tmp/requests"
	} | settle >"$tmp/got"
	verdict "$name"
}

# The verb as text and as JSON.
both() { # NAME VERB WORD...
	name=$1
	shift
	verb=$1
	bare "$name" --socket "$sock" "$@"
	shift
	bare "$name-json" "$verb" --json --socket "$sock" "$@"
	# One document and nothing else: it must be readable as such.
	if command -v python3 >/dev/null && ! python3 -m json.tool <"$tmp/out" >/dev/null; then
		failed=$((failed + 1))
		echo "FAILED: $name --json is not one JSON document"
	fi
}

both status status
both status-verbose status --verbose
both status-vm status vm1
both status-unknown-vm status vm9
both start start vm1
both start-refused start vm2
both start-force start vm1 --force
both stop stop vm1
both stop-force stop vm1 --force
both protect protect vm1 --peer hostB --delay 100ms
both protect-no-wait protect --no-wait --peer=hostB vm1 --max-buffer 64MiB
both protect-refused protect vm2 --peer hostB
both unprotect unprotect vm1
both set set vm1 delay=50ms max-buffer=64MiB
both failover failover vm1
both takeover takeover vm1 --force --confirm vm1
bare takeover-unconfirmed --socket "$sock" takeover vm1 --force
bare takeover-wrong-name --socket "$sock" takeover vm1 --force --confirm vm2
both wait wait vm1 protected --timeout 30s
both wait-timeout wait vm2 protected
both check check
both check-vm check vm1
both dump dump
both dump-vm dump vm1
both version version
bare events-now --socket "$sock" events --now
bare events-now-json --socket "$sock" --json events --now

# Wrong usage is found before the daemon is asked.
both no-peer protect vm1
both delay-without-unit protect vm1 --peer hostB --delay 100
both delay-too-long protect vm1 --peer hostB --delay 11s
both delay-too-short set vm1 delay=0ms
both buffer-too-small set vm1 max-buffer=1MiB
both knob-unknown set vm1 dealy=50ms
both knob-without-value set vm1 delay
both knob-twice set vm1 delay=50ms delay=60ms
both state-unknown wait vm1 protcted
both timeout-bad wait vm1 protected --timeout soon
both verb-unknown statsu
both verb-far-off xyzzy
both option-unknown protect vm1 --per hostB
both option-unknown-letter status -x
both option-without-value protect vm1 --peer
both option-with-value status --watch=1
both operand-missing start
both operand-empty start ''
both operands-too-many start vm1 vm2
both operand-behind-dashes start -- -vm
both not-utf8 start "$(printf 'vm\377')"
bare global-option-unknown --jsno status
bare nothing
bare help help
bare help-option --help
bare help-verb help protect
bare help-verb-option protect --help
bare help-unknown help portect
bare version-option --socket "$sock" --version

# Where the daemon is.
printf '[mcd]\nname = hostA\nrun-dir = %s\nkey-file = %s/key\n' "$tmp" "$tmp" >"$tmp/mcd.conf"
bare config start vm1 --config "$tmp/mcd.conf"
bare config-missing start vm1 --config "$tmp/none.conf"
bare unreachable --socket "$tmp/none.sock" status
bare unreachable-json --socket "$tmp/none.sock" status --json
bare version-unreachable --socket "$tmp/none.sock" version
bare keygen keygen --config "$tmp/mcd.conf"
bare keygen-exists keygen --config "$tmp/mcd.conf"
bare keygen-json keygen "$tmp/key2" --json
stat -c 'mode %a' "$tmp/key" "$tmp/key2" >"$tmp/got"
verdict keygen-mode

# The completion in the repository is the one that the table of verbs makes.
bash -n "$dir/../../../../scripts/completion/mcctl" || failed=$((failed + 1))
"$mcctl" help --completion | cmp - "$dir/../../../../scripts/completion/mcctl" || {
	failed=$((failed + 1))
	echo "FAILED: run 'mcctl help --completion >scripts/completion/mcctl'"
}

# Events are printed as they come.
mkfifo "$tmp/live"
"$mcctl" --socket "$sock" events --history >"$tmp/live" &
watcher=$!
exec 3<"$tmp/live"
read -r first <&3
read -r second <&3
kill -USR1 "$pid"
read -r third <&3
kill "$watcher"
exec 3<&-
printf '%s\n' "$first" "$second" "$third" | settle >"$tmp/got"
verdict events-live

# A terminal gets a progress bar, on stderr.
if command -v script >/dev/null; then
	script -qec "'$mcctl' --socket '$sock' protect vm1 --peer hostB >/dev/null" /dev/null |
		tr '\r' '\n' | sed 's/\x1b\[K//g' >"$tmp/got"
	verdict progress
else
	echo "script(1) is missing: the progress bar is not tested"
fi

# A daemon that ends while events are awaited is noticed.
"$mcctl" --socket "$sock" events --history >"$tmp/live" 2>"$tmp/err" &
watcher=$!
exec 3<"$tmp/live"
read -r first <&3
kill "$pid"
pid=''
wait "$watcher"
echo "exit $?" >"$tmp/got"
exec 3<&-
settle <"$tmp/err" >>"$tmp/got"
verdict daemon-ends

echo "$passed passed, $failed failed"
[ "$failed" = 0 ]
