package workloads

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"

	"github.com/plugbus/plugbus/bench/compare"
	"github.com/plugbus/plugbus/bench/engines"
)

// sets is a workload of writers that share out the pairs.
type sets struct {
	pairs   []engines.Pair
	writers int
}

// A setter is an engine whose sets are durable.
type setter interface {
	visitor
	Set(key string, value []byte) error
}

func storeSets(size Size) []compare.Workload {
	var all []compare.Workload
	for _, w := range []struct{ writers, each int }{{1, 512}, {64, 64}} {
		s := sets{engines.Pairs(w.writers * size.of(w.each)), w.writers}
		peers := []compare.Peer{
			{Side: setSide(s, appender, engines.OpenAppender), Limit: 3},
			{Side: setSide(s, bolt, engines.OpenBolt)},
			{Side: setSide(s, pebble, engines.OpenPebble)},
		}
		if w.writers > 1 {
			peers = append(peers, compare.Peer{Side: setSide(s, boltBatch, func(dir string) (*engines.Bolt, error) {
				return engines.OpenBoltBatch(dir, w.writers)
			})})
		}
		all = append(all, compare.Workload{
			Name:  fmt.Sprintf("store/set/writers=%d", w.writers),
			Ours:  setSide(s, ours, engines.OpenPlugbus),
			Peers: peers,
		})
	}
	return all
}

// setSide is a side that sets all pairs in a directory of the round, opens it again,
// and looks for them.
func setSide[E setter](s sets, name string, open func(dir string) (E, error)) compare.Side {
	return working(name, len(s.pairs), func(dir string) (*compare.Trial, error) {
		return &compare.Trial{Round: func(measure compare.Measure) (err error) {
			dir := filepath.Join(dir, "round")
			if err := os.Mkdir(dir, 0o700); err != nil {
				return err
			}
			defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
			engine, err := open(dir)
			if err != nil {
				return err
			}
			err = measure(func() error { return s.write(engine) })
			if err := errors.Join(err, engine.Close()); err != nil {
				return err
			}
			again, err := open(dir)
			if err != nil {
				return err
			}
			return errors.Join(holds(again, s.pairs), again.Close())
		}}, nil
	})
}

// write lets each writer set its share of the pairs.
func (s sets) write(engine setter) error {
	errs := make([]error, s.writers)
	var writers sync.WaitGroup
	for i := range s.writers {
		share := s.pairs[len(s.pairs)*i/s.writers : len(s.pairs)*(i+1)/s.writers]
		writers.Go(func() {
			for _, p := range share {
				if errs[i] = engine.Set(p.Key, p.Value); errs[i] != nil {
					return
				}
			}
		})
	}
	writers.Wait()
	return errors.Join(errs...)
}
