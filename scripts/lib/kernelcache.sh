# SPDX-License-Identifier: GPL-2.0-or-later
# shellcheck shell=bash
#
# To be sourced: Debian kernels, their packages unpacked (not installed) in one cache directory, so
# that only the first use needs the Debian archive.  Needs die() of the script that sources it.

cache_open() { # sets $cache, and locks it until this process ends: one builder at a time
	local tool
	cache=${MCD_LAB_CACHE:-${XDG_CACHE_HOME:-/var/cache}/mcd-lab}
	mkdir -p "$cache" || die "cannot make $cache; set MCD_LAB_CACHE to a directory you can write to"
	for tool in busybox cpio xz dpkg apt-get "$@"; do
		command -v "$tool" >/dev/null || die "$tool is missing; scripts/bootstrap installs it"
	done
	exec 9>"$cache/lock"
	flock 9
	rm -rf "$cache"/tmp.*
}

cache_newest() { # GLOB of versions: directory of the newest whole kernel of that kind
	find "$cache" -maxdepth 1 -name "kernel-$1" -exec test -e '{}/complete' \; -print | sort -V | tail -n 1
}

cache_package() { # GLOB META...: the package that one of these stands for
	local glob=$1 meta package
	shift
	for meta in "$@"; do
		package=$(apt-cache depends "$meta" 2>/dev/null | sed -n 's/^ *Depends: \(linux-image-[0-9].*\)/\1/p' | head -n 1)
		# shellcheck disable=SC2053 # it is a pattern
		if [[ ${package#linux-image-} == $glob ]]; then
			echo "$package"
			return
		fi
	done
}

cache_fetch() { # GLOB META...
	local pkg tmp try
	for try in 1 2 3; do
		# Lists that are missing or older than the archive are the usual reasons for a failure.
		pkg=$(cache_package "$@")
		if [ -n "$pkg" ]; then
			tmp=$(mktemp -d "$cache/tmp.XXXXXX") || return 1
			# Downloads as root rather than as _apt, who cannot write to this directory.
			if (cd "$tmp" && apt-get -q -o APT::Sandbox::User=root -o Acquire::Retries=3 download "$pkg") >>"$cache/log" 2>&1 &&
				dpkg -x "$tmp"/*.deb "$tmp/root" >>"$cache/log" 2>&1; then
				touch "$tmp/root/complete"
				rm -rf "$cache/kernel-${pkg#linux-image-}"
				mv "$tmp/root" "$cache/kernel-${pkg#linux-image-}" && rm -rf "$tmp" && return 0
			fi
			rm -rf "$tmp"
		fi
		[ "$try" = 3 ] || apt-get -q -o DPkg::Lock::Timeout=60 update >>"$cache/log" 2>&1
	done
	return 1
}

# GLOB META...: sets $root, $version and $kernel to the newest kernel in the cache whose version
# matches, fetching what one of these meta-packages stands for if there is none.
cache_kernel() {
	root=$(cache_newest "$1")
	if [ -z "$root" ]; then
		: >"$cache/log"
		cache_fetch "$@" || die "cannot get Debian's kernel $2 (needs the Debian archive once): $(tail -n 1 "$cache/log")"
		root=$(cache_newest "$1")
	fi
	version=${root##*/kernel-}
	kernel=$root/boot/vmlinuz-$version
	[ -e "$kernel" ] || die "$kernel is missing; remove $root and try again"
}

cache_unpack() { # PACKAGE NAME: the package's files, unpacked as $cache/NAME
	local tmp try
	for try in 1 2 3; do
		tmp=$(mktemp -d "$cache/tmp.XXXXXX") || die "cannot write to $cache"
		if (cd "$tmp" && apt-get -q -o APT::Sandbox::User=root -o Acquire::Retries=3 download "$1") >>"$cache/log" 2>&1 &&
			dpkg -x "$tmp"/*.deb "$tmp/root" >>"$cache/log" 2>&1; then
			rm -rf "${cache:?}/$2"
			mv "$tmp/root" "$cache/$2" && rm -rf "$tmp" && return
		fi
		rm -rf "$tmp"
		[ "$try" = 3 ] || apt-get -q -o DPkg::Lock::Timeout=60 update >>"$cache/log" 2>&1
	done
	die "cannot get Debian's package $1 (needs the Debian archive once): $(tail -n 1 "$cache/log")"
}

cache_unpack_module() { # FILE DIR NUMBER: DIR/NUMBER-NAME.ko, to be loaded in that order
	local name=${1##*/}
	case $name in
	*.xz) xz -dc "$1" >"$2/$3-${name%.xz}" ;;
	*.zst) zstd -qdc "$1" >"$2/$3-${name%.zst}" ;;
	*) cp "$1" "$2/$3-$name" ;;
	esac || die "cannot unpack $1"
}
