# The way to everything that is run by hand. Without a recipe: what must hold before a commit.

default: fmt-check clippy test

# Lists the recipes.
list:
    @just --list

# Formats the code.
fmt:
    cargo fmt --all

fmt-check:
    cargo fmt --all -- --check

# Warnings are errors here.
clippy:
    cargo clippy --locked --all-targets -- -D warnings

# Serves on the default addresses with ./data, and creates topics when they are asked for.
run *ARGS:
    cargo run --release --locked -- serve --auto-create-topics true {{ARGS}}

test *ARGS:
    cargo test --locked {{ARGS}}

# Also the tests that take their time: crashes, soaks, large logs.
test-slow *ARGS:
    HYDRANT_SLOW_TESTS=1 cargo test --release --locked {{ARGS}}

# All benchmarks of parts.
bench *ARGS:
    cargo bench --locked {{ARGS}}

# The storage benchmark behind ADR 0002.
adr-storage *ARGS:
    cargo bench --locked --bench log -- {{ARGS}}

# Third-party clients against a fresh server.
compat *ARGS:
    compat/run-fast {{ARGS}}

# Hydrant beside Apache Kafka and beside the limits, in alternating rounds.
compare-kafka *ARGS: release
    tools/compare-kafka {{ARGS}}

# Live streams on a fresh server: beside the bare broadcast, filtered, idle, catching up.
bench-streams *ARGS: release
    tools/bench-streams {{ARGS}}

release:
    cargo build --release --locked

# Licences, sources and duplicates of the dependencies; needs no network beyond the registry.
deny:
    cargo deny --locked check bans licenses sources

# Known vulnerabilities too; needs the RustSec database.
advisories:
    cargo deny --locked check advisories

# Writes the specifications anew; a test fails while they differ from the code.
openapi:
    cargo run --locked -- openapi > openapi/hydrant.json.new
    mv openapi/hydrant.json.new openapi/hydrant.json
    cargo run --locked -- openapi --version 3.0 > openapi/hydrant-3.0.json.new
    mv openapi/hydrant-3.0.json.new openapi/hydrant-3.0.json

docker:
    docker build --tag hydrant:0.1.0 .

# What the build server runs.
ci:
    .ci/run
