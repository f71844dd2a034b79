// Package hubtest tests plugins and policies.
//
//	func TestInvoices(t *testing.T) {
//		h := hubtest.New(t, hubtest.PolicyFile(t, "policy.json"))
//		h.Add(&Invoices{})
//		shop, mailer := h.Join("shop"), h.Join("mailer")
//		sent := hubtest.Record(t, mailer, "invoices.*")
//
//		_, err := shop.Emit(t.Context(), "orders.placed", Order{ID: "17", Cents: 4200})
//		hubtest.RequireAllowed(t, err)
//		h.Settle()
//		require.Equal(t, []any{Invoice{Order: "17", Cents: 4200}}, sent.Data())
//
//		_, err = shop.Emit(t.Context(), "invoices.created", Invoice{Cents: 1})
//		hubtest.RequireDenied(t, err, plugbus.ReasonInsufficientPermissions)
//	}
//
// # The hub
//
// [New] returns a real hub with everything in it, not an imitation. It takes part
// in the test: what it logs goes to the test's log, refusals explain themselves,
// and a call that cannot do its work fails the test. [Hub.Add] takes plugins,
// [Hub.Plugin] makes one of a function, and [Hub.Join] one of nothing, for its
// session alone.
//
// # The end of a test
//
// When the test ends, its hub is closed. The test fails if something of a plugin
// still runs, if accepted work was left undone, if a plugin panicked or could not
// stop, or if the ledger does not balance. [AllowLeaks] and [AllowProblems] are
// for tests of just that, and want to know why.
//
// The hub cannot see a goroutine that a plugin starts by a bare go statement.
// goleak.VerifyTestMain does, and so does a synctest bubble, which ends when all
// its goroutines have.
//
// # Who the plugin talks to
//
// [Record] keeps the events that somebody gets. [Answer] and [Provide] stand in for
// those whom the plugin asks, and keep its requests; [Consume] keeps what it
// publishes, and [Watch] what it writes to a store. With [Persistent] the stores can be
// on disk.
//
// # Time
//
// Everything works inside of testing/synctest bubbles, where it takes no time,
// and outside of them. No call waits longer than [WaitLimit] for a plugin. In a
// bubble a handler that waits for a mutex, or for something outside of the bubble,
// holds up the clock, and so the test.
//
// # Versions and quarantine
//
// A [Hub] has the methods of the real one: Replace puts the next version of a plugin in
// its place, Quarantine and Restore are the host's, and by the FailureBudget and
// ProbeAfter of [With] a plugin that panics is put in quarantine and probed; in a bubble
// the wait for the probe takes no time. A test of that needs [AllowProblems].
//
// # Policies
//
// [RequireDenied] and [RequireAllowed] look at the error of an act,
// [RequireDecision] at what a policy says of a name. A [Matrix] is the table of who
// may do what, for people and for a golden file: when a policy changes, its
// review shows which plugin may do more.
//
// Methods that can fail the test must be called on the test's own goroutine, as
// those of [testing.TB] that end a test.
package hubtest
