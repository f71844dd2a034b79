// Command compare measures this project beside its peers, and prints one table of
// ratios.
//
//	go run ./cmd/compare
//	go run ./cmd/compare -run 'store/set' -rounds 15 -dir .
//	go run ./cmd/compare -json
//
// The sides of a workload take turns; a ratio is between the medians of their rounds.
// Every round checks that its work was done. Below the table stands what each side
// guarantees.
//
// The flags are:
//
//	-run REGEXP  measure only the workloads whose names match
//	-rounds N    let each side do its work N times, at least 6 for figures that mean
//	             something; the default is 7
//	-dir DIR     make the run's directory, which is removed at the end, inside of
//	             DIR instead of the system's directory for temporary files; in a file
//	             system in memory a sync costs nothing, and durable sets say nothing
//	-json        print an array of {workload, peer, ratio, limit, ok} instead
//
// The exit status is 0 if all limits are kept, 1 if one is missed, and 2 if there are
// no figures, since something failed or a write was lost.
package main
