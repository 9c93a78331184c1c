# Debian's packages for the scripts beside this one, which source it.

may_install() { [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; }

# debian_package NAME "what it is without": installs the package, and ends the script where that can not be done.
debian_package() {
  if ! may_install; then
    echo "$1: it is not on the PATH; install it, or $2" >&2
    exit 1
  fi
  echo "$1: installing Debian's package …" >&2
  # The tests start servers of their own: the package must not start one.
  local forbidden=/usr/sbin/policy-rc.d
  if [ ! -e $forbidden ]; then
    printf '#!/bin/sh\nexit 101\n' > $forbidden
    chmod +x $forbidden
    trap "rm -f $forbidden" EXIT
  fi
  apt-get update -qq
  DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "$1" >/dev/null
}
