#!/usr/bin/env bash
# Builds and pushes the template's image, and writes the template's specification into a bucket. From anywhere:
#
#     deploy/dataflow/build.sh REGION-docker.pkg.dev/PROJECT/REPOSITORY/shelfmark-embed:0.1.0 gs://BUCKET/templates/embed.json
#
# EXTRAS=gcp,gpu in the environment builds it with CUDA.
set -euo pipefail

if [[ $# -ne 2 || $2 != gs://* ]]; then
    echo "expected an image's name and a gs:// path, found: $*; see the head of $0" >&2
    exit 2
fi
image=$1
specification=$2
cd "$(dirname "$0")/../.."

docker build -f deploy/Dockerfile --build-arg "EXTRAS=${EXTRAS:-gcp}" -t "$image-base" .
docker build -f deploy/dataflow/Dockerfile --build-arg "SHELFMARK_IMAGE=$image-base" -t "$image" .
docker push "$image"
gcloud dataflow flex-template build "$specification" \
    --image "$image" --sdk-language PYTHON --metadata-file deploy/dataflow/metadata.json
