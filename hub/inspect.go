package hub

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/plugbus/plugbus"
	"github.com/plugbus/plugbus/audit"
	"github.com/plugbus/plugbus/discovery"
	"github.com/plugbus/plugbus/events"
	"github.com/plugbus/plugbus/router"
	"github.com/plugbus/plugbus/security"
	"github.com/plugbus/plugbus/store"
)

// A Snapshot is the state of a hub at one moment.
type Snapshot struct {
	Plugins  []PluginInfo // in the order of their ids; the host's own session is one of them
	Ledger   plugbus.Ledger
	Router   router.Stats // its mailboxes are those of Plugins
	History  events.HistoryStats
	Stores   store.Stats
	Audit    audit.Stats
	Desk     DeskStats
	Logger   LoggerStats
	Observer ObserverStats
	Policy   uint64 // the version of the policy in force
}

// A PluginInfo says how a plugin fares.
type PluginInfo struct {
	Manifest
	State     State
	Since     time.Time // of the state
	Trust     plugbus.Trust
	Failures  uint64 // since it joined
	LastError string
	Slow      uint64 // times that a handler was found to run long
	Emitted   uint64 // events
	Sent      uint64 // messages, a publication being one
	Refused   uint64 // acts, those included that the ledger does not count, such as to subscribe

	Subscriptions []events.SubscriptionStats
	Mailbox       router.MailboxStats
	Watches       []store.WatchStats     // of stores
	Capabilities  []discovery.Capability // that it provides now
	Goroutines    []string               // the functions of Session.Go that run
	Quarantine    Quarantine             // the one that lasts, or the last one
}

// Plugin returns what the snapshot says of a plugin, and whether it has it.
func (s *Snapshot) Plugin(id string) (PluginInfo, bool) {
	for _, p := range s.Plugins {
		if p.ID == id {
			return p, true
		}
	}
	return PluginInfo{}, false
}

// Ledger returns the sum of what became of the deliveries to the plugin: those to
// its mailbox and its subscriptions, but for subscriptions that have ended.
func (p *PluginInfo) Ledger() plugbus.Ledger {
	sum := p.Mailbox.Ledger
	for _, s := range p.Subscriptions {
		sum.Add(s.Ledger)
	}
	return sum
}

// Inspect returns the state of the hub. The queues and the figures of the events
// are those of one instant, and so are those of the messages.
func (h *Hub) Inspect() Snapshot {
	clients, ledger := h.bus.Stats()
	messages := h.router.Stats()
	ledger.Add(messages.Ledger)
	snapshot := Snapshot{Ledger: ledger, Router: messages, History: h.bus.History(), Stores: h.stores.Stats(), Audit: h.log.Stats(), Logger: h.writes.stats(), Desk: h.desk.stats(), Observer: h.observer.figures(), Policy: h.authority.Version()}
	policy := h.authority.Policy()
	provided := map[string][]discovery.Capability{}
	for _, r := range h.index.Snapshot() {
		provided[r.Plugin] = append(provided[r.Plugin], r.Capability)
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	now := h.clock.Now()
	for _, m := range h.everyMember() {
		info := PluginInfo{
			Manifest: m.manifest.clone(), State: m.state, Since: m.since,
			Failures: m.failed, LastError: m.lastError, Slow: m.slow, Goroutines: m.session.names(), Quarantine: m.quarantine(now),
		}
		if grant, ok := policy.Grant(m.manifest.ID); ok {
			info.Trust = grant.Trust
		}
		if m == h.host {
			info.Trust = plugbus.Verified
		}
		if m == h.host || h.members[m.manifest.ID] == m {
			info.Capabilities = provided[m.manifest.ID]
		}
		var own events.ClientStats
		for _, c := range clients {
			if c.Owner == m {
				own = c
			}
		}
		info.Emitted, info.Refused, info.Subscriptions = own.Emitted, m.session.guard.refused.Load(), own.Subscriptions
		for _, b := range messages.Mailboxes {
			if b.Owner == m {
				info.Mailbox = b
				info.Mailbox.Owner = nil
			}
		}
		info.Sent = info.Mailbox.Sent
		for _, s := range snapshot.Stores.Stores {
			for _, w := range s.Watches {
				if w.Owner == m {
					w.Owner = nil
					info.Watches = append(info.Watches, w)
				}
			}
		}
		snapshot.Plugins = append(snapshot.Plugins, info)
	}
	for i := range snapshot.Router.Mailboxes {
		snapshot.Router.Mailboxes[i].Owner = nil
	}
	for _, s := range snapshot.Stores.Stores {
		for i := range s.Watches {
			s.Watches[i].Owner = nil
		}
	}
	slices.SortStableFunc(snapshot.Plugins, func(a, b PluginInfo) int { return cmp.Compare(a.ID, b.ID) })
	return snapshot
}

// everyMember returns the members, the host's and those that left included of
// which something runs: of one id first the one that has joined, then the one that is to
// take its place, and then those before. hub.mu is held.
func (h *Hub) everyMember() []*member {
	h.forget()
	all := []*member{h.host}
	for _, m := range h.members {
		all = append(all, m)
	}
	for _, m := range h.members {
		if m.successor != nil {
			all = append(all, m.successor)
		}
	}
	for m := range h.gone {
		if m != h.host && m != h.members[m.manifest.ID] {
			all = append(all, m)
		}
	}
	return all
}

// A Leak is something of a plugin that has not ended although it should have. Go
// cannot end it.
type Leak struct {
	Plugin string
	Kind   string // "handler", "goroutine", "call", or "callback" for the host's own
	Name   string // the pattern, or "ReceiveEvent", the type of message, the watch or validator with its store, the name given to Session.Go, or what was called
	Site   string // where a handler was set, as file:line; "" for a validator
}

// Leaks returns the handlers that were abandoned and still run, the other calls
// into plugins, such as Start and Stop, that did not return in time, and the goroutines of
// sessions that have ended. A Manifest that did not return is listed under the
// host, since its plugin has no id yet; and so are the host's own callbacks for which
// [Hub.Close] has waited in vain, and its Logger while that hangs. It is empty when all is well.
func (h *Hub) Leaks() []Leak {
	var leaks []Leak
	for _, l := range h.bus.Leaks() {
		leaks = append(leaks, Leak{l.Plugin, "handler", cmp.Or(l.Pattern, "ReceiveEvent"), l.Site})
	}
	for _, l := range h.router.Leaks() {
		leaks = append(leaks, Leak{l.Plugin, "handler", l.Type, l.Site})
	}
	for _, l := range h.stores.Leaks() {
		leaks = append(leaks, Leak{l.Plugin, "handler", l.What + " of store " + l.Store, l.Site})
	}
	for _, name := range h.callbacks() {
		leaks = append(leaks, Leak{Plugin: security.HostID, Kind: "callback", Name: name})
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	for a := range h.asked {
		if a.late || h.closing {
			leaks = append(leaks, Leak{Plugin: security.HostID, Kind: "call", Name: a.name})
		}
	}
	for _, m := range h.everyMember() {
		for _, call := range m.stuck {
			leaks = append(leaks, Leak{Plugin: m.manifest.ID, Kind: "call", Name: call})
		}
		if m.session.writes.sticks() {
			leaks = append(leaks, Leak{Plugin: m.manifest.ID, Kind: "call", Name: "Session.Logger"})
		}
		if m.state != Stopped && m.state != Failed {
			continue
		}
		// Whoever called may not have noticed yet that the session has ended.
		if call := m.session.tasks.runs(); call != "" && !slices.Contains(m.stuck, call) {
			leaks = append(leaks, Leak{Plugin: m.manifest.ID, Kind: "call", Name: call})
		}
		for _, name := range m.session.names() {
			leaks = append(leaks, Leak{Plugin: m.manifest.ID, Kind: "goroutine", Name: name})
		}
	}
	slices.SortFunc(leaks, func(a, b Leak) int {
		return cmp.Or(cmp.Compare(a.Plugin, b.Plugin), cmp.Compare(a.Kind, b.Kind), cmp.Compare(a.Name, b.Name))
	})
	return leaks
}

// A PluginHealth says whether a plugin is well.
type PluginHealth struct {
	Plugin string
	State  State
	Err    error // what is wrong; nil if nothing is known to be
}

// Well reports whether the plugin is ready and has nothing to complain about.
func (p PluginHealth) Well() bool { return p.State == Ready && p.Err == nil }

// Health asks every plugin that is a [HealthChecker], and returns what it knows
// of all, in the order of their ids. A plugin that does not answer before ctx is
// done, or the hub's wait limit is over, is not well: the error then matches
// [ErrBusy] if it was busy with something else. One in quarantine is not asked: its
// error matches [ErrQuarantined], and says why it is there and when it is probed.
func (h *Hub) Health(ctx context.Context) []PluginHealth {
	h.mu.Lock()
	members := slices.SortedFunc(maps.Values(h.members), func(a, b *member) int { return cmp.Compare(a.manifest.ID, b.manifest.ID) })
	result := make([]PluginHealth, len(members))
	for i, m := range members {
		result[i] = PluginHealth{Plugin: m.manifest.ID, State: m.state}
		if m.state == Quarantined {
			result[i].Err = fmt.Errorf("%w: %s", ErrQuarantined, m.story(h.clock.Now()))
		}
	}
	h.mu.Unlock()
	var wait sync.WaitGroup
	for i, m := range members {
		if checker, ok := m.plugin.(HealthChecker); ok && result[i].State == Ready {
			wait.Go(func() { result[i].Err = m.call(ctx, "Health", checker.Health) })
		}
	}
	wait.Wait()
	return result
}

// Plugins returns the ids of the plugins that have joined, sorted.
func (h *Hub) Plugins() []string {
	h.mu.Lock()
	defer h.mu.Unlock()
	return slices.Sorted(maps.Keys(h.members))
}
