"""asv benchmarks over the named shapes of nbprop/bench/suite.json."""
