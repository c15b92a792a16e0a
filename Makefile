# Every target first makes the clone ready (tools/bootstrap). The demo, the tests and the benchmark work in network namespaces of
# their own, for which they need root: they ask through sudo where they have to.
AS_ROOT := $(if $(filter 0,$(shell id -u)),,sudo -E env "PATH=$$PATH" "HOME=$$HOME")
RUN := .venv/bin/python
# The real programs that the tests need which pytest chooses by these arguments; everything, for what measures or compares.
PARTS_FOR = tools/real-parts --tests $(1) >/dev/null || $(UNBUILT)
UNBUILT := echo "make: some real programs could not be built; the tests that need them are skipped" >&2
HOLD ?=
export COLD COLD_ARGS
# Hundreds of programs are started: each would compile all of its modules anew where the environment forbids to keep them.
export PYTHONDONTWRITEBYTECODE :=
ARGS ?=

.PHONY: help bootstrap real-parts demo test cold image test-slow test-fast test-e2e test-vm test-cluster test-upstream walkthrough conformance soak check bench compare proto manual site diagrams lock clean
help: ## this list
	@sed -n 's/^\([a-z0-9-]*\):.*## /\1\t/p' Makefile | expand -t 12

bootstrap:
	@tools/bootstrap

real-parts: bootstrap
	@tools/real-parts >/dev/null || $(UNBUILT)

demo: bootstrap ## three nodes, pods and a client in namespaces, shown step by step (HOLD=1 stays up)
	@$(AS_ROOT) $(RUN) -m deploy.demo $(if $(filter 1 yes true,$(HOLD)),--hold)

test: bootstrap ## unit, sessions, kernel, real Kubernetes (ARGS=... go to pytest)
	@$(call PARTS_FOR,-m "not slow and not cluster" $(ARGS))
	@$(AS_ROOT) $(RUN) -m pytest -n 4 --dist loadscope --no-loadscope-reorder -m "not slow and not cluster" $(ARGS)

test-slow: bootstrap ## what takes minutes: large samples, long loads, the corpus on kube-proxy, the page in a browser
	@DELTAPLANE_BROWSER=yes tools/bootstrap
	@$(call PARTS_FOR,-m slow $(ARGS))
	@$(AS_ROOT) $(RUN) -m pytest -n 3 --dist loadscope --no-loadscope-reorder -m slow $(ARGS)

test-fast: bootstrap ## the part that takes less than two minutes
	@$(AS_ROOT) $(RUN) -m pytest -m "not e2e and not vm and not slow and not cluster" $(ARGS)

test-e2e: bootstrap ## real Kubernetes, grpcurl and Jaeger only
	@$(call PARTS_FOR,-m e2e $(ARGS))
	@$(AS_ROOT) $(RUN) -m pytest -m e2e $(ARGS)

test-vm: bootstrap ## what needs a kernel with IPVS or SCTP, in a User-mode Linux guest (SLOW=1: beside kube-proxy, and killed 200 times)
	@DELTAPLANE_GUEST=yes tools/bootstrap
	@$(if $(SLOW),tools/real-parts >/dev/null || $(UNBUILT))
	@$(RUN) -m tools.guest --limit $(if $(SLOW),3600,1500) -- $(RUN) -m pytest tests/vm -m "$(if $(SLOW),slow,not slow)" -p no:cacheprovider $(ARGS)

test-cluster: bootstrap ## Deltaplane on a real Kubernetes of two nodes on this machine: kubelets, containers (17 minutes; ARGS=--connections=100000)
	@DELTAPLANE_CLUSTER=yes tools/bootstrap
	@tools/real-parts --cluster >/dev/null || $(UNBUILT)
	@$(AS_ROOT) $(RUN) -m pytest $(if $(findstring tests/cluster,$(ARGS)),,tests/cluster) -m cluster -p no:randomly $(ARGS)

test-upstream: bootstrap ## Kubernetes' own specs of Services on that cluster; writes docs/conformance.md (MODE=iptables, PROXY=kube-proxy, ARGS=--smoke)
	@DELTAPLANE_CLUSTER=yes tools/bootstrap
	@tools/real-parts --cluster >/dev/null || $(UNBUILT)
	@$(AS_ROOT) $(RUN) -m tests.cluster.upstream --proxy=$(or $(PROXY),deltaplane) --mode=$(or $(MODE),nftables) $(ARGS)

walkthrough: bootstrap ## what an operator does and sees, W1 to W19, on that cluster; writes docs/walkthrough.md (ten minutes)
	@DELTAPLANE_CLUSTER=yes DELTAPLANE_GUEST=yes tools/bootstrap
	@tools/real-parts --cluster >/dev/null || $(UNBUILT)
	@mkdir -p build/walkthrough && $(RUN) -m tools.guest --limit 900 --results build/walkthrough -- $(RUN) -m tests.walkthrough.guest /run/out/seen.json
	@$(AS_ROOT) $(RUN) -m tests.walkthrough $(ARGS)

conformance: bootstrap real-parts ## every scenario of tests/flows in every column, kube-proxy among them; writes docs/behaviour.md
	@DELTAPLANE_GUEST=yes tools/bootstrap
	@$(AS_ROOT) $(RUN) -m tests.flows $(ARGS)

soak: bootstrap ## a million random operations on the kernel in memory (ARGS="--operations N --seed S")
	@$(RUN) -m tests.soak $(ARGS)

# Both commands of README.md where nothing is. COLD=all builds the real programs there too; COLD_ARGS go to pytest.
cold: bootstrap ## make demo and make test in a fresh Debian root, as root and through sudo (half an hour)
	@DELTAPLANE_COLD=yes tools/bootstrap
	@$(if $(filter all,$(COLD)),,tools/real-parts >/dev/null || $(UNBUILT))
	@$(AS_ROOT) tools/cold $(ARGS)

image: bootstrap ## build the image, and say what each part of it costs (build/image/deltaplane.tar)
	@DELTAPLANE_IMAGE=yes tools/bootstrap
	@$(AS_ROOT) tools/image $(ARGS)

check: bootstrap ## every static check
	@tools/check $(ARGS)

bench: bootstrap real-parts ## measure, and write docs/performance.md
	@$(AS_ROOT) $(RUN) -m bench $(ARGS)

compare: bootstrap real-parts ## beside kube-proxy on one API server: tables and plots in docs/performance.md (ARGS="--sizes 100x3"; an hour and more)
	@DELTAPLANE_PLOTS=yes tools/bootstrap
	@$(AS_ROOT) $(RUN) -m bench compare $(ARGS)

proto: bootstrap ## generate deltaplane/v1 from proto/
	@tools/generate-proto

manual: bootstrap ## write docs/command.md, flags.md and metrics.md from the programs themselves
	@$(RUN) -m tools.command_page
	@$(RUN) -m tools.flags_page
	@$(RUN) -m tools.metrics_page

site: bootstrap ## build the documentation as a site, every link checked (build/site/index.html)
	@$(RUN) -m tools.site $(ARGS)

diagrams: bootstrap ## draw the documents' state diagrams from the programs' tables
	@$(RUN) -m tools.state_diagrams

lock: bootstrap ## resolve requirements.lock anew (ARGS=--upgrade for newer versions)
	@tools/lock $(ARGS)

clean: ## remove .venv and caches; the real parts stay in their own cache
	@rm -rf .venv build dist *.egg-info .coverage .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +
