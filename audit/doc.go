// Package audit keeps a bounded log of what happened on a bus: who did what to
// whom, how it ended, and why.
//
//	log, err := audit.New(audit.Options{})
//	seq, err := log.Record(audit.Entry{
//		Event: "emit.refused", Actor: "indexer", Target: "billing.paid",
//		Verb: plugbus.VerbEmit, Outcome: plugbus.Refused, Reason: plugbus.ReasonDeniedByRule,
//	})
//	page, err := log.Search(audit.Query{Event: "emit.*", Actor: "indexer"})
//	err = log.Close(ctx)
//
// # Recording
//
// [Log.Record] never waits for anything but a short mutex, runs no code of
// others, and costs the same however full the log is. It numbers the entries
// from 1 without a gap, in the order in which they were recorded. All text is
// escaped and cut when it is recorded, so no id, name or reason can forge a
// line in a sink. What goes in and what comes out are copies. A log holds
// metadata: do not put payloads into it.
//
// # Shares
//
// A full log makes room by forgetting the oldest entry of the actor that holds
// the most. So a flood pushes out its own entries, and an actor that holds no
// more than the capacity divided by the number of actors loses nothing to
// others. Entries marked [Entry.Admin] have a capacity of their own, which the
// others cannot touch. What was forgotten is a gap in the sequence, and
// [Page.Missed] counts it.
//
// # Repeats
//
// Entries of one actor with the same event, verb, outcome and reason that come
// within [Options.CoalesceWithin] are one entry with a count, whatever their
// targets and details; the entry keeps those of the first. A plugin can choose
// a new target for each try, but not a new reason. Admin entries are one only
// if they differ in nothing but the time. The events of the entries should
// therefore come from a short list, and never from a plugin.
//
// # Sinks
//
// Each [Sink] runs on a goroutine of its own, which exists while there is
// something to write, under recover, behind a bounded queue. It gets the
// entries in the order of their Seq. An entry that was repeated is written
// twice: when it is recorded, and with its final count at most two of
// [Options.CoalesceWithin] later; the later line replaces the earlier of the
// same Seq, and comes after lines with a greater one. What finds the queue full
// is dropped, and counted in [SinkStats].
//
// A sink that is [SinkOptions.Required] makes the log one that must record:
// while its queue has no room or its last write failed, Record returns
// [ErrUnavailable], and the caller must not do what it wanted to record. The log
// keeps the entry all the same, since a refusal stands whoever takes note of
// it, and marks it [Entry.Unconfirmed]; the sink gets it later if there is room.
// A failed write is tried again until the sink accepts it or Close gives up. So
// nil means queued, not written: the entry is lost only if Close says so, or if
// the process dies before the sink gets to it.
//
// # Reading
//
// [Log.Search] pages through what is kept, newest first unless asked
// otherwise. A page tells where to go on, and entries that are recorded
// meanwhile neither shift nor repeat its successors. Reading is for the host:
// whoever holds the [*Log] may read all of it, so do not hand it to plugins.
//
// # Closing
//
// [Log.Close] writes what is queued, waits for the sinks, and says what was not
// written. Later records are refused with plugbus.ErrClosed; what is kept can
// still be read.
package audit
