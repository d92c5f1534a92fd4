#!/usr/bin/env bash
# Builds and pushes the template's image, and writes the template's specification into a bucket. From anywhere:
#
#     LAUNCHER_TAG=20260122_RC00 \
#         deploy/dataflow/build.sh REGION-docker.pkg.dev/PROJECT/REPOSITORY/shelfmark-embed:0.1.0 gs://BUCKET/templates/embed.json
#
# LAUNCHER_TAG is one of those that https://docs.cloud.google.com/dataflow/docs/reference/flex-templates-base-images lists:
# Google publishes the launcher by date and keeps no promise about old ones. EXTRAS=gcp,gpu builds with CUDA.
#
# What the image takes parts of is looked up now, built from by digest, and recorded in the image's labels. BEAM_IMAGE and
# LAUNCHER_IMAGE, each NAME:TAG@sha256:..., repeat an earlier build: `docker inspect` shows the labels.
set -euo pipefail

if [[ $# -ne 2 || $2 != gs://* ]]; then
    echo "expected an image's name and a gs:// path, found: $*; see the head of $0" >&2
    exit 2
fi
if [[ -z "${LAUNCHER_TAG:-}${LAUNCHER_IMAGE:-}" || "${LAUNCHER_TAG:-}" == latest ]]; then
    echo "expected LAUNCHER_TAG, a dated tag of the launcher, found: '${LAUNCHER_TAG:-}'; see the head of $0" >&2
    exit 2
fi
image=$1
specification=$2
cd "$(dirname "$0")/../.."

# by_digest NAME:TAG [NAME:TAG@sha256:...]: the second, or the first with the digest that it has now.
by_digest() {
    local digest found=${2:-}
    if [[ -z "$found" ]]; then
        digest=$(docker buildx imagetools inspect "$1" --format '{{.Manifest.Digest}}')
        found="$1@$digest"
    fi
    if [[ ! "$found" =~ @sha256:[0-9a-f]{64}$ ]]; then
        echo "expected an image by digest, NAME:TAG@sha256:..., found: $found" >&2
        return 2
    fi
    echo "$found"
}

beam=$(by_digest apache/beam_python3.11_sdk:2.77.0 "${BEAM_IMAGE:-}")
launcher_base=gcr.io/dataflow-templates-base/python311-template-launcher-base
launcher=$(by_digest "$launcher_base:${LAUNCHER_TAG:-}" "${LAUNCHER_IMAGE:-}")
echo "BEAM_IMAGE=$beam"
echo "LAUNCHER_IMAGE=$launcher"

docker build -f deploy/Dockerfile --build-arg "EXTRAS=${EXTRAS:-gcp}" -t "$image-base" .
docker build -f deploy/dataflow/Dockerfile --build-arg "SHELFMARK_IMAGE=$image-base" \
    --build-arg "BEAM_IMAGE=$beam" --build-arg "LAUNCHER_IMAGE=$launcher" -t "$image" .
docker push "$image"
gcloud dataflow flex-template build "$specification" \
    --image "$image" --sdk-language PYTHON --metadata-file deploy/dataflow/metadata.json
