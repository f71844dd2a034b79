package hub

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"

	"github.com/plugbus/plugbus"
	"github.com/plugbus/plugbus/audit"
	"github.com/plugbus/plugbus/security"
	"github.com/plugbus/plugbus/store"
	"github.com/plugbus/plugbus/store/disk"
)

// CreateStore makes a store that the plugin owns, and that outlives it. See
// [store.Client.Create].
func (s *Session) CreateStore(ctx context.Context, name string, config store.Config) (*store.View, error) {
	return s.keeper.Create(ctx, name, config)
}

// EnsureStore returns a view of a store that the plugin owns: of the one that is there,
// or of a new one. So a plugin can begin with the same call in every run. See
// [store.Client.Ensure].
func (s *Session) EnsureStore(ctx context.Context, name string, config store.Config) (*store.View, error) {
	return s.keeper.Ensure(ctx, name, config)
}

// OpenStore returns a view of a store to which the plugin has some right. See
// [store.Client.Open].
func (s *Session) OpenStore(ctx context.Context, name string) (*store.View, error) {
	return s.keeper.Open(ctx, name)
}

// Stores returns the stores to which the plugin has some right. See
// [store.Client.List].
func (s *Session) Stores(ctx context.Context) ([]store.Info, error) {
	return s.keeper.List(ctx)
}

// BackupStores writes a copy of all persistent stores, as of one moment, while writes go
// on, and returns how many bytes it wrote. In an empty directory, under the name
// [disk.BackupName], it is a StoreDir. Without persistent stores the error matches
// [store.ErrNotPersistent].
func (h *Hub) BackupStores(ctx context.Context, w io.Writer) (int64, error) {
	return h.stores.Backup(ctx, w)
}

// CompactStores gives back the room on disk of what was deleted from the stores. Writes
// to persistent stores may wait meanwhile. Without persistent stores the error matches
// [store.ErrNotPersistent].
func (h *Hub) CompactStores(ctx context.Context) error { return h.stores.Compact(ctx) }

// openStores opens the stores, with those of the directory.
func (h *Hub) openStores() error {
	o := h.opts.Store
	if h.opts.StoreDir != "" {
		engine, err := disk.Open(h.opts.StoreDir, disk.Options{})
		if err != nil {
			return err
		}
		o.Backend = engine
		h.opts.Store.Backend = engine
	}
	o.Actors, o.Clock, o.Logger = h.actors, h.clock, h.logger
	o.Observe = h.observer.taker()
	o.OwnerQuota, o.OnFailure, o.OnSlow, o.OnChange = h.ownerQuota, h.storeFailed, h.storeSlow, h.storeChanged
	var err error
	if h.stores, err = store.Open(o); err != nil {
		return errors.Join(err, h.discardStores())
	}
	return nil
}

// discardStores closes what a hub that does not come to be has of stores.
func (h *Hub) discardStores() error {
	switch {
	case h.stores != nil:
		return h.stores.Close(context.Background())
	case h.opts.Store.Backend != nil:
		return h.opts.Store.Backend.Close()
	}
	return nil
}

// ownerQuota returns what the policy of now lets a plugin own. The host has no limit
// but those of all.
func (h *Hub) ownerQuota(owner string) (stores int, bytes int64) {
	if owner == security.HostID {
		return math.MaxInt, math.MaxInt64
	}
	grant, _ := h.authority.Policy().Grant(owner)
	return grant.Limits.Stores, grant.Limits.StoreBytes
}

// explainStore adds what the lists of a store say to what the policy says.
func (h *Hub) explainStore(e *security.Explanation) {
	right := store.Read
	switch e.Verb {
	case plugbus.VerbRead:
	case plugbus.VerbWrite:
		right = store.Write
	default:
		return
	}
	if e.Plugin == security.HostID {
		return
	}
	rule, remedy := h.stores.Lists(e.Plugin, e.Object, right)
	layer := security.Layer{Name: "lists", Passed: rule == "", Detail: "the lists of the store allow it"}
	if rule != "" {
		layer.Reason, layer.Detail = plugbus.ReasonInsufficientPermissions, rule
		e.Rule, e.Remedy = joined(e.Allowed, e.Rule, rule), joined(e.Allowed, e.Remedy, remedy)
		if e.Allowed {
			e.Allowed, e.Reason = false, layer.Reason
		}
	}
	e.Layers = append(e.Layers, layer)
}

// joined returns what the lists say, after what the policy says if that refuses too.
func joined(allowed bool, policy, lists string) string {
	if allowed || policy == "" {
		return lists
	}
	return policy + "; and " + lists
}

// storeChanged hears of stores that were made or dropped, or whose lists changed.
func (h *Hub) storeChanged(a store.Administration) {
	h.record(audit.Entry{
		Event: a.Act, Actor: a.Actor, Target: a.Store, Admin: a.Actor == security.HostID,
		Details: []audit.Detail{{Key: "detail", Value: a.Detail}, {Key: "persistent", Value: fmt.Sprint(a.Persistent)}},
	})
}

// storeFailed hears of a watcher or validator that did not go well. It runs on the
// plugin's worker, or where the call was abandoned.
func (h *Hub) storeFailed(f store.Failure) {
	m, ok := f.Owner.(*member)
	if !ok {
		return
	}
	outcome := plugbus.Failed
	if f.Abandoned {
		outcome = plugbus.Abandoned
	}
	h.record(audit.Entry{
		Event: "store." + outcome.String(), Actor: f.Plugin, Target: f.Store, Verb: plugbus.VerbRead, Outcome: outcome,
		Details: []audit.Detail{
			{Key: "what", Value: f.What},
			{Key: "site", Value: f.Site},
			{Key: "writer", Value: f.Writer},
			{Key: "key", Value: f.Key},
			{Key: "error", Value: textOf(f.Err)},
		},
	})
	counts := f.Abandoned || f.Err == store.ErrTimedOut || f.Err == store.ErrGoexit //nolint:errorlint // A plugin's error is not unwrapped, since its methods may panic.
	if _, panicked := f.Err.(*store.PanicError); panicked {                         //nolint:errorlint // The same.
		counts = true
	}
	m.failure(fmt.Sprintf("the %s of store %q", f.What, f.Store), f.Err, counts)
}

// storeSlow hears of watchers and validators that run long.
func (h *Hub) storeSlow(s store.Slow) {
	h.slow(s.Owner, s.Site, s.For, "store", s.Store+", "+s.What, "set store.Timeout")
}
