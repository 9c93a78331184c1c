#!/usr/bin/env bash
# The images that a bot on a cluster needs, as archives in the cache, without a registry:
#   bash scripts/images/build.sh            prints the archives' paths, for scripts/node/node.py import
# The project's own two are built by their Dockerfiles from a local base, and from the agents' two revisions of an image
# with a plug-in (own/); RabbitMQ, InfluxDB and PostgreSQL by the Dockerfiles beside this script, which stand in for the
# official ones. As root on Debian, with what scripts/servers/node.sh brings; 3 min the first time. The servers' images
# are kept until what is beside this script changes; the project's are made anew.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
project=$(cd "$here/../.." && pwd)
cache=${TRADINGBOT_SERVERS:-${XDG_CACHE_HOME:-$HOME/.cache}/tradingbot-servers}/images
mkdir -p "$cache"
export STORAGE_DRIVER=overlay BUILDAH_ISOLATION=chroot
storage=(--root "$cache/storage" --runroot "$cache/storage-run")
version=$(sed -n 's/^version = "\(.*\)"$/\1/p' "$project/pyproject.toml")
base=localhost/python:3.13-slim

# What the machine's pip is set up with, so that an index of its own is used here too; nothing of it stays in the image.
settings=()
for place in /etc/pip.conf /etc/ssl/certs /opt/wheels; do
  [ -e "$place" ] && settings+=(--volume "$place:$place:ro")
done

LABEL=tradingbot.dev/source # of what an image was made

label() { buildah "${storage[@]}" inspect --type image --format "{{index .OCIv1.Config.Labels \"$LABEL\"}}" "$1" 2>/dev/null || :; }

has() { buildah "${storage[@]}" inspect --type image "$1" >/dev/null 2>&1; }

# archive NAME: of the image, under its file's name.
archive() {
  local file=$cache/${1##*/}.tar
  file=${file//:/-}
  rm -f "$file.new"
  buildah "${storage[@]}" push --quiet "$1" "docker-archive:$file.new:$1"
  mv "$file.new" "$file"
  echo "$file"
}

if ! has "$base"; then
  echo "images: the base …" >&2
  mirror=$(apt-get indextargets --format '$(REPO_URI)' 'Created-By: Packages' | grep -m1 '/debian/*$')
  work=$(mktemp -d)
  trap 'rm -rf "$work"' EXIT
  debootstrap --variant=minbase --include=python3,python3-venv,ca-certificates trixie "$work/root" "$mirror" >/dev/null
  rm -rf "$work"/root/var/cache/apt/* "$work"/root/var/lib/apt/lists/* "$work"/root/usr/share/{doc,man,locale}/*
  for name in python python3; do ln -sf /usr/bin/python3 "$work/root/usr/local/bin/$name"; done
  chmod 755 "$work/root"
  container=$(buildah "${storage[@]}" from scratch)
  buildah "${storage[@]}" add --quiet "$container" "$work/root" / >/dev/null
  buildah "${storage[@]}" config --env PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin "$container"
  buildah "${storage[@]}" commit --quiet --rm "$container" "$base" >/dev/null
fi

for name in rabbitmq:4.1 influxdb:2.7-alpine postgres:17-alpine; do
  image=docker.io/library/$name
  source=$(cat "$here/${name%%:*}"/* | sha256sum | cut -c 1-16)
  if [ "$(label "$image")" != "$source" ]; then
    echo "images: $name …" >&2
    context=$(mktemp -d)
    cp "$here/${name%%:*}"/* "$context"
    [ "${name%%:*}" != influxdb ] || cp "$(bash "$project/scripts/servers/influxdb.sh")" "$context/influxd"
    buildah "${storage[@]}" bud --quiet --build-arg DEBIAN_IMAGE=$base --label "$LABEL=$source" --tag "$image" \
      "$context" >&2
    rm -rf "$context"
  fi
  archive "$image"
done

for name in operator agents; do
  image=docker.io/library/tradingbot-$name:$version
  echo "images: $name …" >&2
  buildah "${storage[@]}" bud --quiet --layers "${settings[@]}" --build-arg PYTHON_IMAGE=$base \
    --file "$project/$name/Dockerfile" --tag "$image" "$project" >&2
  archive "$image"
done

for revision in 1 2; do
  own=docker.io/library/tradingbot-own:$revision
  buildah "${storage[@]}" bud --quiet --build-arg "AGENTS_IMAGE=$image" --build-arg "REVISION=$revision" \
    --file "$here/own/Dockerfile" --tag "$own" "$project/tests" >&2
  archive "$own"
done
