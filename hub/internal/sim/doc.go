// Package sim puts a hub into random worlds, and holds it to its promises.
//
// A world follows from its seed: which plugins there are, what each policy allows
// them, and a list of acts with the simulated time of each: plugins join, leave, are
// replaced, subscribe with every option, emit, broadcast, send, stream, flood each
// other, provide and find capabilities, write, watch and drop stores; the host swaps
// policies, lowers trust, restores, sends dead letters again, uses middleware, and
// closes the hub at any moment.
// What a handler does with a delivery follows from the seed and the number of the
// delivery too: it returns, fails, panics, ends its goroutine, sleeps, blocks, hangs,
// emits, sends in circles, subscribes, or unregisters its own plugin.
//
//	go test ./hub/internal/sim                      some worlds
//	go test ./hub/internal/sim -for 30m             fresh ones, for so long
//	go test ./hub/internal/sim -seed 42             one, a hundred times
//	go test ./hub/internal/sim -seed 42 -v          the same, with what happened
//
// A world runs in a bubble of testing/synctest, where a minute costs milliseconds. It
// gives the acts and their times, not the order in which goroutines run between
// them; so a seed that failed runs again a hundred times, and one failure is enough.
//
// Everything that acts notes what it did, with a stamp before and one after; every
// handler notes what it got, with a stamp. The hub knows nothing of these records.
// When the world has ended they are compared with what the promises say, and during
// it the hub's own snapshots are:
//
//   - the ledger balances at every look, and bounds hold;
//   - no event or message comes twice, out of order, altered, too late, to whom it was
//     not for, or across a permission that did not hold; and no door lets in what it
//     may not, or more of it;
//   - what a subscription did not get is in its ledger, and it is told how much of that
//     was dropped; witnesses get everything, at the simulated time at which it was
//     emitted;
//   - a replay has no gap that it does not report;
//   - the changes of a store are all told, once each, and add up to its state; a read
//     returns no value that is older than its begin, or over; what a write was to
//     change is what it has changed, and the validator has let it pass;
//   - no lane starves, no sender has more than its share of a mailbox, and what could
//     not be delivered is a dead letter;
//   - who is found provides, and who provides is found;
//   - every caller came back by its limit, and when its target left;
//   - nothing of a plugin begins after it has left, and no two of its calls overlap;
//   - what has not returned is what Leaks says, and nothing else.
package sim
