#!/bin/bash
# Makes a Rust compiler for wasm32-unknown-unknown without rustup's downloads and without installing anything:
#
#   guest_toolchain.sh DIR TOOLS
#
# Debian's rustc-web is unpacked into DIR and the standard library is compiled once from Debian's rust-web-src.
# TOOLS is the directory of the toolchain at hand that has rust-lld. Afterwards DIR/rustc is the compiler.
# Needs apt-get and dpkg-deb, package lists (apt-get update), Cargo and its registry. Safe to run again.
set -euo pipefail

dir=$(mkdir -p "$1" && cd "$1" && pwd)
tools=$2
cpu=$(uname -m)
lib=$dir/usr/lib/rustlib
guest_std=$lib/wasm32-unknown-unknown/lib

fail() {
    echo "guest toolchain: $*" >&2
    exit 1
}

candidate() {
    apt-cache policy rustc-web 2>/dev/null | sed -n 's/^ *Candidate: //p' | grep -v '(none)' || true
}

version=$(candidate)
if [ -z "$version" ]; then
    # Fails without root where the lists were never fetched; the message below then says what to do.
    apt-get update -qq || true
    version=$(candidate)
fi
[ -n "$version" ] || fail "no package rustc-web; run apt-get update, or install the target with rustup target add wasm32-unknown-unknown"
release=${version%%+*}     # 1.96.0+dfsg1-1~deb12u2 -> 1.96.0
series=${release%.*}       # -> 1.96
llvm=$(apt-cache depends "libstd-rust-web-$series=$version" | sed -n 's/^ *Depends: \(libllvm.*\)/\1/p' | head -n 1)

# What LLVM's library is linked with, and a small machine lacks: libz3-4, libxml2 and what these need in turn.
lacking() {
    local package
    apt-cache depends --recurse --no-recommends --no-suggests --no-conflicts --no-breaks --no-replaces --no-enhances "$1" |
        grep '^[a-z]' | sort -u | while read -r package; do
            dpkg-query -W -f='${Status}' "$package" 2>/dev/null | grep -q 'install ok installed' || echo "$package"
        done
}

rm -rf "$dir/packages" "$dir/usr"
mkdir -p "$dir/packages"
cd "$dir/packages"
apt-get download -qq \
    "rustc-web=$version" "libstd-rust-web-$series=$version" "libstd-rust-web-dev=$version" "rust-web-src=$version" \
    ${llvm:+$(lacking "$llvm")}
for package in *.deb; do
    case $package in
        rust-web-src*) dpkg-deb --fsys-tarfile "$package" | tar -x -C "$dir" --wildcards './usr/src/rustc-*/library/*' ;;
        *) dpkg-deb -x "$package" "$dir" ;;
    esac
done

cat > "$dir/rustc" <<END
#!/bin/sh
LD_LIBRARY_PATH=$dir/usr/lib/$cpu-linux-gnu:$dir/lib/$cpu-linux-gnu\${LD_LIBRARY_PATH:+:\$LD_LIBRARY_PATH} exec $dir/usr/bin/rustc "\$@"
END
chmod +x "$dir/rustc"
"$dir/rustc" --version >/dev/null || fail "the unpacked compiler does not start: $(ldd "$dir/usr/bin/rustc" | grep 'not found' || true)"
mkdir -p "$lib/$cpu-unknown-linux-gnu/bin"
ln -sf "$tools/rust-lld" "$lib/$cpu-unknown-linux-gnu/bin/rust-lld"

# The standard library the way Rust's own build makes it, against the versions that its lock file names.
cd "$dir/usr/src/rustc-$release/library"
env -u CARGO_ENCODED_RUSTFLAGS -u CARGO_BUILD_TARGET -u RUSTC_WRAPPER \
    RUSTC="$dir/rustc" RUSTC_BOOTSTRAP=1 __CARGO_DEFAULT_LIB_METADATA=stablestd CARGO_TARGET_DIR="$dir/std-target" \
    RUSTFLAGS="-Cembed-bitcode=yes -Zforce-unstable-if-unmarked -Cdebuginfo=0" \
    cargo build --quiet --locked --manifest-path sysroot/Cargo.toml --target wasm32-unknown-unknown --release \
    --features "panic-unwind compiler-builtins-mem"
# Put in place by one rename: a directory that is there is complete.
mkdir -p "$guest_std.fresh"
cp "$dir"/std-target/wasm32-unknown-unknown/release/deps/*.rlib "$guest_std.fresh/"
rm -rf "$guest_std"
mv "$guest_std.fresh" "$guest_std"
rm -rf "$dir/packages" "$dir/std-target" "$dir/usr/src" "$dir/usr/share" "$lib/src"
