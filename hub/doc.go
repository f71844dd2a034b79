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
//	Publish    reaches the matching handlers of topics, through the mailboxes of
//	           their plugins; one that is full does not get it, and the receipt
//	           names it; not kept
//	Send       reaches one plugin, through its mailbox, and waits for its reply;
//	           if the mailbox is full it fails at once, or waits if asked to
//	Stream     is Send with many replies, and Post with none
//	Call       is Send to the best provider of a capability; to the next one only
//	           if the first did not start with it, or if it may be done twice
//
// Events are package events, and messages and publications package router.
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
// nobody else. Only handlers with events.Concurrent or router.Concurrent, and what
// the plugin starts with [Session.Go], run beside them. A handler must not wait for another handler
// of its own plugin, and Start must not wait for an event.
//
// # Capabilities
//
// A plugin declares in its [Manifest] what it provides, and handles the messages
// of that name; or it does both at once, at any time, by [Session.Provide]. Others
// find it by [Session.Find] and [Session.Providers], read what it is by
// [Session.Capability], as far as the policy and the capability's own access list
// let them, and by the same rule they [Session.Call] it. Schemas are enforced on what goes in and comes out, on the provider's worker.
// A provider that starts, leaves, is in quarantine or has no room is left out. How
// reliable and fast one is, is measured. A caller is to blame for what it asks, and
// for a deadline of its own; neither counts against the provider.
//
// What a manifest requires must be there when the plugin is registered. When nobody
// provides it any more, a [Dependant] hears of it.
//
// # Stores
//
// Plugins share data in stores, of package store: [Session.EnsureStore] makes one that
// belongs to the plugin's id and outlives the plugin, or finds the one of an earlier run,
// and [Session.OpenStore] gives another plugin a view of it. What may be done with it the
// policy and the store's own lists say together.
//
// A store is in memory, unless it is made with store.Config.Persistent, for which the host
// names an [Options.StoreDir]: then what was written survives the death of the process,
// and is there when the next hub opens the directory. [Hub.BackupStores] copies all such
// stores.
//
// While a plugin is in quarantine its watches rest, and its validators are not asked; when
// it is restored they go on.
//
// # Lifecycle
//
// [Hub.Register] takes plugins in all or none, in the order of what they require.
// A plugin is starting, ready, draining, stopped, failed, or quarantined.
// [Hub.Unregister] and [Hub.Close] handle what waits, call Stop, and then fence
// the plugin: every call of its session returns [plugbus.ErrClosed], and no call
// of its handlers starts. Go cannot end a handler that does not return; [Hub.Leaks]
// names it until it does.
//
// [Hub.Replace] puts a new version in the place of a plugin. That starts while the old
// one serves, and one that does not start leaves the old one serving. If it starts, the
// place changes hands in one step: no event, message, publication or change of a store
// is lost, none comes twice, and what both provide is always found. The old one handles
// the events that it has before any handler of the new one begins.
//
// # Quarantine
//
// A plugin that panics, exceeds its time or floods more than [Options.FailureBudget]
// times a minute is put in quarantine, and so is one that the host names to
// [Hub.Quarantine]: it may do nothing more, and gets nothing more. What runs goes on to
// its end, and its result is the outcome. What waits ends as undeliverable, and so do the
// events of later. Messages and publications of later are refused at once, and the sender
// hears that the recipient is quarantined if it may know of it. Its subscriptions, handlers,
// watches and capabilities stay. The figures of a subscription and the ledger count what it has
// missed, a watch of a store goes on where it was, and a replay brings the events back.
//
// The hub itself lets a plugin go on, unless the host has put it there: after
// [Options.ProbeAfter] it probes the plugin on its own worker. One that is well is
// restored, on probation for a minute, in which one failure sends it back; after each
// probe that fails, and each failure on probation, the next wait is twice as long, up to
// [Options.ProbeMax]. A probe costs the plugin no failure, and one that hangs is not
// repeated while it does. [Hub.Restore] ends every quarantine at once. [Hub.Inspect],
// [Hub.Explain] and [Hub.Health] say why a plugin is there, and when it is probed; the
// audit log has each turn and each probe.
//
// A plugin is charged for what it does itself. Its handlers' panics, and time-outs by its
// own limit or the hub's, are its failures; an error that a handler returns is none. A
// sender is charged for what is refused, and for requests that do not fit a schema. Nobody
// is charged for a deadline that the sender chose, for a recipient that cannot receive,
// or for what the host's own middleware does wrong. What still runs of a plugin that has
// left is never charged to another one of the same id.
//
// # Notices
//
// The hub tells what happens by events of its own: "plugin:registered",
// "plugin:unregistered", "plugin:replaced", "plugin:quarantined",
// "plugin:restored", "plugin:requirement-lost" and "security:alert", each with a
// [Notice] as payload. Plugins may subscribe to them by name, where the policy
// allows, and cannot emit them. A host that has an EventBus already gets the same
// notices there: see [Options.NoticeBoard].
//
// # Figures
//
// [Hub.Ledger] counts how deliveries of events and messages ended, and always
// balances. [Hub.Inspect] returns everything, by plugin. What was accepted and not
// handled, and nobody waits for, the host finds among the [Hub.DeadLetters].
//
// An [Observer] gets an observation of each act and delivery, for metrics and traces, on
// a goroutine of its own. It costs nothing where there is none, and delays nobody.
package hub
