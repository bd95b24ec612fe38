# Each target sets up what it needs in .venv; nothing has to be installed by hand but Python and make.
PYTHON ?= python3
BIN := .venv/bin
# Tests are processes that wait for each other's files: one a core is best. Who has no more tests takes some of another's.
JOBS ?= $(shell nproc 2>/dev/null || echo 2)
SPREAD := -n $(JOBS) --dist worksteal
# Tests start hundreds of processes: where nothing compiled may be kept, each compiles all of this anew.
unexport PYTHONDONTWRITEBYTECODE
S3PROXY := $(if $(shell command -v java),$(if $(shell command -v mvn),.cluster/s3proxy.jar))

.PHONY: demo test test-slow test-faults test-cluster cluster-up cluster-down spark-up spark-down lint format benchmark lock clean

demo: .venv/installed
	rm -rf demo
	$(BIN)/sensorium example digits demo
	$(BIN)/sensorium run demo/recipe.yaml

test: .venv/dev $(S3PROXY)
	$(BIN)/pytest $(SPREAD) -m "not slow and not cluster and not faults"

# Minutes rather than seconds: twenty killed runs, real data sets.
test-slow: .venv/dev $(S3PROXY)
	$(BIN)/pytest $(SPREAD) -m "slow and not faults"

# Eight minutes on two cores: an S3 server that fails at each PUT of a run.
test-faults: .venv/dev .cluster/s3proxy.jar
	$(BIN)/pytest $(SPREAD) -m faults

# The S3 server of the tests: one file to download, where s3s-fs takes minutes to compile. It runs on Java and comes
# by Maven; without these the tests that need it are skipped, and say so.
.cluster/s3proxy.jar:
	mkdir -p $(@D)
	mvn -q -B -ntp org.apache.maven.plugins:maven-dependency-plugin:3.8.1:copy -Dmdep.stripVersion=true \
	    -Dartifact=org.gaul:s3proxy:3.1.0:jar:jar-with-dependencies -DoutputDirectory=$(@D)
	mv $(@D)/s3proxy-jar-with-dependencies.jar $@

# The same bytes on Flink and on Spark, with two workers each, and on Prism, and what is killed there. Needs Java,
# Maven and Go; what they download and build is kept in .cluster.
test-cluster: .venv/dev .cluster/s3proxy.jar
	$(BIN)/pytest -m cluster tests/cluster

# A Flink cluster on this machine to try things on: see infra/README.md.
cluster-up: .venv/installed
	$(BIN)/python -m infra.flink.cluster up

cluster-down: .venv/installed
	$(BIN)/python -m infra.flink.cluster down

# The same of Spark.
spark-up: .venv/installed
	$(BIN)/python -m infra.spark.cluster up

spark-down: .venv/installed
	$(BIN)/python -m infra.spark.cluster down

lint: .venv/dev
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: .venv/dev
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

benchmark: .venv/installed
	$(BIN)/python -m infra.benchmarks.whole_job

# constraints.txt is what was tested: made anew from a fresh environment, then committed.
lock:
	rm -rf .venv
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --editable '.[dev]'
	$(BIN)/python -m pip freeze --exclude-editable | grep -v '^sensorium' > constraints.txt

.venv/bin/python:
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed; name one with: make PYTHON=python3.12")'
	$(PYTHON) -m venv .venv

.venv/installed: .venv/bin/python pyproject.toml constraints.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable .
	touch $@

.venv/dev: .venv/installed
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[dev]'
	touch $@

clean:
	[ ! -d .cluster/flink ] || $(BIN)/python -m infra.flink.cluster down
	rm -rf .venv .cluster demo build *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
