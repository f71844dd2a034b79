package store

import (
	"cmp"
	"slices"
)

// Stats say how a DB fares.
type Stats struct {
	Stores  []StoreStats // in the order of their names
	Clients []ClientStats
	Changes uint64 // of all stores, since the DB was opened
	Refused uint64 // acts
	Bytes   int64  // of all keys and values

	Waiting  int    // writes that wait for the backend
	Commits  uint64 // that the backend was given
	Writes   uint64 // in them
	Expiring int    // entries that will expire
	Broken   error  // why the persistent stores are read-only, nil if they are not
}

// StoreStats say how one store fares.
type StoreStats struct { //nolint:revive // They are those of a store; Stats are those of a DB.
	Info
	Access  Access
	Guarded bool // it has a validator
	Away    bool // which is not there, so that nobody can write
	Schema  bool // it has a schema
	Waiting int  // keys with a change that waits for the backend
	History HistoryStats
	Watches []WatchStats
}

// HistoryStats say what a store keeps for its watches.
type HistoryStats struct {
	Changes int
	Bytes   int
	Floor   uint64 // the revision of the last change that is no longer kept
}

// WatchStats say how a watch fares.
type WatchStats struct {
	Plugin    string
	Owner     any `json:"-"` // of ClientOptions
	Pattern   string
	Site      string
	Delivered uint64 // calls of the watcher that returned in time
	Failed    uint64 // calls that failed, or were abandoned
	Lost      uint64 // changes of the store that it missed
	Behind    uint64 // revisions of the store that it has not looked at yet
}

// ClientStats say how a client fares.
type ClientStats struct {
	ID      string
	Watches int
	Waiting int    // writes that wait for validators of the plugin
	Refused uint64 // acts
	Running string // what call of the plugin runs, if any
}

// Stats returns how the DB fares. The figures of one store are those of one instant.
func (db *DB) Stats() Stats {
	st := Stats{Changes: db.changes.Load(), Refused: db.refused.Load()}
	for _, s := range db.spaces() {
		st.Stores = append(st.Stores, s.stats())
	}
	for _, c := range db.everyClient() {
		c.mu.Lock()
		own := ClientStats{ID: c.id, Watches: len(c.watches), Waiting: len(c.errands), Refused: c.refused.Load()}
		if c.running != nil {
			own.Running = c.running.what + " of " + c.running.store
		}
		c.mu.Unlock()
		st.Clients = append(st.Clients, own)
	}
	slices.SortFunc(st.Clients, func(a, b ClientStats) int { return cmp.Compare(a.ID, b.ID) })
	db.committer.stats(&st)
	db.usage.mu.Lock()
	st.Bytes = db.usage.bytes
	db.usage.mu.Unlock()
	db.expiries.mu.Lock()
	st.Expiring = len(db.expiries.queue)
	db.expiries.mu.Unlock()
	return st
}

func (c *committer) stats(st *Stats) {
	c.mu.Lock()
	defer c.mu.Unlock()
	st.Waiting, st.Commits, st.Writes, st.Broken = len(c.queue), c.commits, c.writes, c.broken
}

func (s *space) stats() StoreStats {
	s.mu.RLock()
	defer s.mu.RUnlock()
	st := StoreStats{
		Info:   s.figures(),
		Access: s.acl.Load().access(), Guarded: s.guarded, Away: s.guarded && s.validator == nil, Schema: s.schema != nil, Waiting: len(s.ahead.keys),
		History: HistoryStats{len(s.history.changes) - s.history.start, s.history.bytes, s.history.floor},
	}
	for w := range s.watches {
		st.Watches = append(st.Watches, WatchStats{
			Plugin: w.client.id, Owner: w.client.owner, Pattern: w.pattern, Site: w.site,
			Delivered: w.delivered.Load(), Failed: w.failed.Load(), Lost: w.lost.Load(), Behind: s.revision - w.seen.Load(),
		})
	}
	slices.SortFunc(st.Watches, func(a, b WatchStats) int {
		return cmp.Or(cmp.Compare(a.Plugin, b.Plugin), cmp.Compare(a.Pattern, b.Pattern), cmp.Compare(a.Site, b.Site))
	})
	return st
}

// A Leak is a call of a watcher or validator that was abandoned, or whose plugin has
// left, and that has not returned. Go cannot end it.
type Leak struct {
	Plugin, Store, What, Site string
}

// Leaks returns the calls that should have returned.
func (db *DB) Leaks() []Leak {
	var leaks []Leak
	for _, c := range db.everyClient() {
		c.mu.Lock()
		if k := c.running; k != nil && (k.abandoned || c.ended.Load()) {
			leaks = append(leaks, Leak{c.id, k.store, k.what, k.site})
		}
		c.mu.Unlock()
	}
	slices.SortFunc(leaks, func(a, b Leak) int {
		return cmp.Or(cmp.Compare(a.Plugin, b.Plugin), cmp.Compare(a.Store, b.Store), cmp.Compare(a.What, b.What))
	})
	return leaks
}
