package workloads

import (
	"bytes"
	"errors"
	"fmt"
	"time"

	"github.com/plugbus/plugbus/bench/compare"
	"github.com/plugbus/plugbus/bench/engines"
)

// A visitor is an engine that tells what it holds.
type visitor interface {
	Each(visit func(key string, value []byte) error) error
	Close() error
}

// A filler is an engine that can be filled and tells what it holds.
type filler interface {
	visitor
	Fill(pairs []engines.Pair) error
}

func storeOpens(size Size) []compare.Workload {
	pairs := engines.Pairs(size.of(100_000))
	return []compare.Workload{{
		Name: fmt.Sprintf("store/open/keys=%d", len(pairs)),
		Ours: openSide(pairs, ours, engines.OpenPlugbus, func(*engines.Plugbus) error { return nil }),
		Peers: []compare.Peer{
			{Side: compare.Side{Name: openInLimit, Guarantees: guarantee(openInLimit), Bound: 300 * time.Millisecond}, Limit: 1},
			{Side: openSide(pairs, bolt, engines.OpenBolt, load)},
			{Side: openSide(pairs, pebble, engines.OpenPebble, load)},
		},
	}}
}

// openSide is a side that opens a directory with the pairs, and then does what it
// takes to have them in memory.
func openSide[E filler](pairs []engines.Pair, name string, open func(dir string) (E, error), load func(E) error) compare.Side {
	return working(name, 1, func(dir string) (*compare.Trial, error) {
		engine, err := open(dir)
		if err != nil {
			return nil, err
		}
		if err := errors.Join(engine.Fill(pairs), engine.Close()); err != nil {
			return nil, err
		}
		return &compare.Trial{Round: func(measure compare.Measure) error {
			var opened []E
			err := measure(func() error {
				engine, err := open(dir)
				if err != nil {
					return err
				}
				opened = append(opened, engine)
				return load(engine)
			})
			for _, engine := range opened {
				if err == nil {
					err = holds(engine, pairs)
				}
				err = errors.Join(err, engine.Close())
			}
			return err
		}}, nil
	})
}

// load reads everything into a map, as our stores do by themselves.
func load[E visitor](engine E) error {
	values := make(map[string][]byte)
	return engine.Each(func(key string, value []byte) error {
		values[key] = bytes.Clone(value)
		return nil
	})
}

// holds returns an error unless the engine holds the pairs and nothing else.
func holds(engine visitor, pairs []engines.Pair) error {
	want := make(map[string][]byte, len(pairs))
	for _, p := range pairs {
		want[p.Key] = p.Value
	}
	err := engine.Each(func(key string, value []byte) error {
		if !bytes.Equal(want[key], value) {
			return fmt.Errorf("key %q holds %d bytes that were not written to it", key, len(value))
		}
		delete(want, key)
		return nil
	})
	if err != nil {
		return err
	}
	for key := range want {
		return fmt.Errorf("%d of %d keys are lost, such as %q", len(want), len(pairs), key)
	}
	return nil
}
