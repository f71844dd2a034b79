# make lists the targets; CONTRIBUTING.md says when to use them.
.DEFAULT_GOAL := help
SHELL := bash
.SHELLFLAGS := -euo pipefail -c

lint := GOWORK=off go tool -modfile=tools/go.mod golangci-lint

# How long each fuzz target runs, and how often each test, in make soak.
FUZZTIME ?= 1m
COUNT ?= 20
# How often each benchmark runs in make microbench; benchstat wants ten.
BENCHCOUNT ?= 1
# How often make soak kills a process that writes to stores.
CRASHROUNDS ?= 500
# How long make soak plays worlds of fresh seeds, and again under the race detector.
SIMTIME ?= 30m
# How often make soak checks each model of rapid.
CHECKS ?= 5000

.PHONY: help check test race lint fmt bench microbench soak cover

help: ## List the targets.
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "%-10s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

check: ## Run everything that CI runs.
	bash .ci/run

test: ## Run the tests of every module in the workspace.
	go test work

race: ## The same under the race detector, in random order.
	go test -race -shuffle=on work

lint: ## Report what the linters find; the first run builds them for some minutes.
	$(lint) run ./...

fmt: ## Format all Go files.
	$(lint) fmt

bench: ## Measure plugbus beside its peers, in one run; prints ratios.
	cd bench && go run ./cmd/compare

microbench: ## Run the benchmarks of the packages; benchstat compares two outputs.
	go test -run='^$$' -bench=. -benchmem -count=$(BENCHCOUNT) work

soak: ## Race tests many times over, worlds, models, crashes, then each fuzz target for FUZZTIME.
	go test -race -shuffle=on -count=$(COUNT) work
	go test -count=1 -timeout=0 -v ./hub/internal/sim -for $(SIMTIME)
	go test -race -count=1 -timeout=0 -v ./hub/internal/sim -for $(SIMTIME)
	for package in $$(git grep -l --untracked 'pgregory.net/rapid' -- '*_test.go' | xargs -n 1 dirname | sort -u); do \
		go test -count=1 -timeout=0 ./$$package -rapid.checks=$(CHECKS); \
	done
	PLUGBUS_CRASH_ROUNDS=$(CRASHROUNDS) go test -count=1 -timeout=0 -run=Crash ./store/...
	for package in $$(go list work); do \
		for target in $$(go test -list='^Fuzz' $$package | grep '^Fuzz' || true); do \
			go test -run='^$$' -fuzz="^$$target$$" -fuzztime=$(FUZZTIME) $$package; \
		done; \
	done

cover: ## Report the coverage of each function, by the tests of all packages.
	profile=$$(mktemp) && trap 'rm -f "$$profile"' EXIT && \
		go test -coverpkg=./... -coverprofile="$$profile" ./... && \
		go tool cover -func="$$profile"
