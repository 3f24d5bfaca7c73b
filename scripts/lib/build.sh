# SPDX-License-Identifier: GPL-2.0-or-later
# shellcheck shell=bash
#
# To be sourced: what a script that makes a lab is about to run is built first.  Needs $top.

# A build directory that was named, by --build or MCD_BUILD, is taken as it is: the programs under test are those in it.
named_build() { # ARGUMENTS...: prints it
	local dir=${MCD_BUILD-}
	while [ $# -gt 0 ]; do
		case $1 in
		--build) dir=${2-} ;;
		--build=*) dir=${1#*=} ;;
		esac
		shift
	done
	[ -n "$dir" ] && echo "$dir"
}

build_tools() { # DIR TARGETS...: 0 when they are built
	local dir=$1 log=$1/tools.log
	shift
	"$top/scripts/bootstrap" && mkdir -p "$dir" || return 2
	if ! { [ -e "$dir/build.ninja" ] || meson setup "$dir" "$top"; } >"$log" 2>&1 || ! ninja -C "$dir" "$@" >>"$log" 2>&1; then
		tail -n 20 "$log" >&2
		return 2
	fi
	rm -f "$log"
}
