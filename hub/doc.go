// Package hub joins the plugins of one process: it is where a host starts.
//
//	h, err := hub.New(hub.Options{Policy: policy, Logger: logger})
//	if err != nil {
//		return err
//	}
//	defer h.Close(ctx)
//	err = h.Register(ctx, &Reader{}, &Indexer{})
//
// A host embeds one [Hub], and alone holds it. A [Plugin] gets a [Session], its
// own door to the hub, when it starts, and talks to other plugins only through
// that:
//
//	func (p *Indexer) Start(ctx context.Context, hub *hub.Session) error {
//		_, err := hub.Subscribe("files.*", p.index)
//		return err
//	}
//
// # Which verb
//
//	Emit       reaches the matching subscriptions; if a queue is full, the
//	           subscription's overflow rule decides; kept in the history
//	Broadcast  reaches an audience: its matching subscriptions, and its plugins
//	           that are an [EventReceiver]; never its sender; kept in the history
//
// # One door
//
// Every act of a session passes one check: is it well formed, does the policy
// allow it, is its rate within the limit, can its payload be copied and is it
// harmless. The policy denies what it does not allow; the zero Options have a
// policy that allows nothing. A refusal is a [*plugbus.DeniedError] for the
// plugin, an audit entry for the host, and [Hub.Explain] says what would change
// it. Recipients are checked again when a delivery starts.
//
// # Actors
//
// Everything that the hub calls of one plugin runs one at a time, on a worker of
// the plugin's own: Start, then its handlers, health checks, and Stop. So a
// plugin needs no locks for what only these touch, and a plugin that hangs delays
// nobody else. Only handlers with events.Concurrent, and what the plugin starts
// with [Session.Go], run beside them. A handler must not wait for another handler
// of its own plugin, and Start must not wait for an event.
//
// # Lifecycle
//
// [Hub.Register] takes plugins in all or none, in the order of what they require.
// A plugin is starting, ready, draining, stopped, failed, or quarantined: one
// that panics, exceeds its time or floods more than [Options.FailureBudget] times
// a minute may do nothing more and gets nothing more, until [Hub.Restore].
// [Hub.Unregister] and [Hub.Close] handle what waits, call Stop, and then fence
// the plugin: every call of its session returns [plugbus.ErrClosed], and no call
// of its handlers starts. Go cannot end a handler that does not return;
// [Hub.Leaks] names it until it does.
//
// The hub tells what happens by events of its own: "plugin:registered",
// "plugin:unregistered", "plugin:quarantined", "plugin:restored" and
// "security:alert", each with a [Notice] as payload. Plugins may subscribe to
// them by name, where the policy allows, and cannot emit them. A host that has an
// EventBus already gets the same notices there: see [Options.NoticeBoard].
//
// # Figures
//
// [Hub.Ledger] counts how deliveries ended, and always balances. [Hub.Inspect]
// returns everything at one moment.
package hub
