package engines

import (
	"context"
	"errors"
	"slices"

	"github.com/plugbus/plugbus/hub"
	"github.com/plugbus/plugbus/security"
	"github.com/plugbus/plugbus/store"
)

// A Plugbus is a persistent store of a hub, used by a plugin with the rights that it
// needs and no others. All checks are in force: the policy, the lists of the store, a
// rate, trust and content.
type Plugbus struct {
	hub  *hub.Hub
	view *store.View
}

// policy lets one plugin use one store. Its rate is counted, and never reached.
const policy = `{ "version": 1, "plugins": { "bench": {
	"trust": "trusted",
	"dataAccess": { "pairs": { "read": true, "write": true, "create": true, "requiresTrust": true } },
	"rates": { "data_access": { "limit": 1000000000000, "per": "1m" } } } } }`

// OpenPlugbus opens a hub with the store in dir, which it makes if need be.
func OpenPlugbus(dir string) (*Plugbus, error) {
	rules, err := security.Parse([]byte(policy), "the policy of the benchmark")
	if err != nil {
		return nil, err
	}
	h, err := hub.New(hub.Options{Policy: rules, StoreDir: dir})
	if err != nil {
		return nil, err
	}
	p := &Plugbus{hub: h}
	err = h.Register(context.Background(), hub.Func(hub.Manifest{ID: "bench", Version: "1.0.0"}, p.start))
	if err != nil {
		return nil, errors.Join(err, p.Close())
	}
	return p, nil
}

// start is the start of the plugin.
func (p *Plugbus) start(ctx context.Context, session *hub.Session) (err error) {
	p.view, err = session.OpenStore(ctx, "pairs")
	if errors.Is(err, store.ErrNotFound) {
		p.view, err = session.CreateStore(ctx, "pairs", store.Config{Persistent: true})
	}
	return err
}

// Fill sets the pairs in transactions of as many as they take.
func (p *Plugbus) Fill(pairs []Pair) error {
	for some := range slices.Chunk(pairs, 1000) {
		err := p.view.Txn(context.Background(), func(tx *store.Tx) error {
			for _, pair := range some {
				if err := tx.Set(pair.Key, pair.Value); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// Set sets a pair. It is durable when Set has returned nil.
func (p *Plugbus) Set(key string, value []byte) error {
	_, err := p.view.Set(context.Background(), key, value)
	return err
}

// Sum gets each key, and returns the sum of the numbers of the values. It reads these
// in place.
func (p *Plugbus) Sum(keys []string) (uint64, error) {
	ctx := context.Background()
	var sum uint64
	for _, key := range keys {
		entry, err := p.view.Get(ctx, key)
		if err != nil {
			return 0, p.lost(key, err)
		}
		sum += Number(entry.Text())
	}
	return sum, nil
}

// SumCopies is Sum of copies. The last one is returned, and so each is on the heap.
func (p *Plugbus) SumCopies(keys []string) (sum uint64, last []byte, _ error) {
	ctx := context.Background()
	for _, key := range keys {
		entry, err := p.view.Get(ctx, key)
		if err != nil {
			return 0, nil, p.lost(key, err)
		}
		last = entry.Value()
		sum += Number(last)
	}
	return sum, last, nil
}

func (p *Plugbus) lost(key string, err error) error {
	if errors.Is(err, store.ErrNotFound) {
		return errors.Join(lost(key), err)
	}
	return err
}

// Each visits all pairs in the order of their keys.
func (p *Plugbus) Each(visit func(key string, value []byte) error) error {
	for entry, err := range p.view.Entries(context.Background(), store.All()) {
		if err != nil {
			return err
		}
		if err := visit(entry.Key(), entry.Value()); err != nil {
			return err
		}
	}
	return nil
}

// Close closes the hub.
func (p *Plugbus) Close() error {
	_, err := p.hub.Close(context.Background())
	return err
}
