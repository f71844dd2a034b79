// Package compare measures how long this project takes for some work, as a multiple
// of how long its peers take for the same work.
//
//	report, err := compare.Run(ctx, []compare.Workload{{
//		Name:  "copy/bytes=1MiB",
//		Ours:  compare.Side{Name: "ours", Guarantees: "a copy", Acts: 1000, Prepare: ours},
//		Peers: []compare.Peer{{Side: compare.Side{Name: "memmove", ...}, Limit: 1.5}},
//	}}, compare.Options{})
//	err = report.WriteTable(os.Stdout)
//
// # Rounds
//
// Single times mean little on a machine that others use too. So the sides of a
// [Workload] take turns: in each round every side does its work once, and each round
// begins with another side. What counts is the median of a side's rounds, and of the
// medians only their ratio within one run. Garbage is collected before each turn, so
// that nobody pays for what another left behind.
//
// # Honesty
//
// A side measures only its work, by the [Measure] that its round is given, and checks
// outside of it that the work was really done. An error of any round ends the run:
// there are no figures beside lost work. Every side says what it guarantees, since a
// ratio between two sides that promise different things is none.
//
// # Limits
//
// A [Peer] may have a limit, which ours must not exceed. A side with a Bound instead
// of work stands for a fixed time.
package compare
