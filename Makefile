# Thin: every target is one or two commands that can be typed by hand as well.

.PHONY: help demo test bench header

help:
	@echo "make demo    build the library and examples/c/forecast.c, train with AdamW and with MetaAdamW, compare"
	@echo "make test    format, lints, tests, documentation, the release library's exports, the demo in short"
	@echo "make bench   time the step and the attention module (criterion)"
	@echo "make header  refresh include/metaadamw.h and tests/exports.txt from the sources"

demo:
	scripts/setup.sh
	cargo build --release --locked
	scripts/build-c.sh examples/c/forecast.c build/forecast
	build/forecast

test:
	scripts/test.sh

bench:
	cargo bench --locked

header:
	METAADAMW_BLESS=1 cargo test --locked --test header the_committed_header
	METAADAMW_BLESS=1 cargo test --locked --test exports the_committed_list
