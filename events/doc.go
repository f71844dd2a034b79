// Package events carries events from the plugins that emit them to those that
// subscribed.
//
//	bus, err := events.New(events.Options{})
//	indexer, err := bus.Client("indexer", events.ClientOptions{})
//	reader, err := bus.Client("reader", events.ClientOptions{})
//
//	_, err = indexer.Subscribe("files.*", func(ctx context.Context, e events.Event) error {
//		fmt.Println(e.Source(), "says", e.Name(), e.Data())
//		return nil
//	})
//	_, err = reader.Emit(ctx, "files.added", "README.md")
//
// A hub makes the bus and its clients; plugins use the same methods on their
// session. A bus without a hub allows everything: see [plugbus.Guard].
//
// # Names and patterns
//
// A name is made of tokens between ".", ":" or "/", such as "files.added". In a
// pattern "*" stands for one token and "**" at the end for one or more. Names
// that begin with "plugin:", "hub:", "store:" or "security:" belong to the hub,
// and a pattern that begins with a wildcard does not match them.
//
// # Order
//
// The events of a bus have one order, their Seq. Each plugin handles the events
// of all its subscriptions in this order, one at a time; the handlers that one
// plugin has for the same event run by [Priority]. What a subscription reads of
// the history comes in this order too, but beside what the plugin's others get.
// [Concurrent] takes a subscription out of the order.
//
// # Delivery
//
// Emit never runs a handler and never waits for one, unless it is told to wait
// for room. Each subscription has a bounded queue, and [OnOverflow] says what a
// full one does; the event after dropped ones says how many are missing. Every
// delivery ends in exactly one [plugbus.Outcome], and [Bus.Ledger] counts them.
//
// The recipient's permission is asked for again when a delivery starts, so an
// event that waited while the permission was taken away is not delivered.
//
// # Payloads
//
// The bus copies a payload when it is emitted, and copies this copy for each
// [Event.Data], unless its type holds no references. So nobody can change what
// others get, and nobody has to lock. See [plugbus.Shared] for the exception.
//
// # History
//
// The bus keeps the latest events, bounded by count, bytes and age, with a fair
// share for every source. [StartAt] begins a subscription with them; the seam to
// the live events has no gap and no duplicate. [Client.Replay] reads them
// without a subscription. What the history no longer holds is reported, by
// [Event.Truncated] and [TruncatedError].
//
// # Handlers
//
// A handler gets a context that ends when its plugin leaves. A handler that
// panics or ends its goroutine fails its event, and nothing else. One that hangs
// delays the plugin it belongs to and nobody else; [Timeout] abandons it, and
// [Bus.Leaks] names it for as long as it stays.
//
// # Taking over
//
// A client that is made with ClientOptions.Held is to take the place of the one with its
// id: it subscribes beside it, and [Client.Succeed] gives it the place in one step, so
// that every event is of one of the two. When the old one has handled what it has and is
// closed, [Client.Settle] has the handlers of the new one called.
//
// # Closing
//
// [Subscription.Unsubscribe], [Client.Close] and [Bus.Close] can be called from
// anywhere and more than once; a handler passes its own context to Close. After
// they return no new call of a handler starts.
package events
