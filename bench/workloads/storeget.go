package workloads

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"runtime"
	"slices"
	"strings"
	"sync"

	"github.com/plugbus/plugbus/bench/compare"
	"github.com/plugbus/plugbus/bench/engines"
)

// gets is a workload of readers that get keys.
type gets struct {
	pairs   []engines.Pair
	keys    []string // what each reader gets in a pass; readers begin at different places
	readers int
}

// A getter is an engine that can be filled.
type getter interface {
	Fill(pairs []engines.Pair) error
	Close() error
}

func storeGets(size Size) []compare.Workload {
	pairs := engines.Pairs(size.of(100_000))
	// A caller's key is another string than the one in the store.
	hot := slices.Repeat([]string{strings.Clone(pairs[len(pairs)/2].Key)}, len(pairs))
	random := make([]string, 0, len(pairs))
	for _, i := range rand.New(rand.NewPCG(1, 2)).Perm(len(pairs)) {
		random = append(random, strings.Clone(pairs[i].Key))
	}
	const quick, slow = 10, 1 // passes of a round
	var all []compare.Workload
	for _, test := range []struct {
		name    string
		keys    []string
		readers int
	}{
		{"hot", hot, 1},
		{fmt.Sprintf("keys=%d", len(pairs)), random, 1},
		{"hot/parallel", hot, max(2, runtime.GOMAXPROCS(0))},
		{fmt.Sprintf("keys=%d/parallel", len(pairs)), random, max(2, runtime.GOMAXPROCS(0))},
	} {
		g := gets{pairs, test.keys, test.readers}
		limit := 4.0
		if test.readers > 1 {
			limit = 0 // Those who read as one plugin share its meter: shown, and not promised.
		}
		all = append(all, compare.Workload{
			Name: "store/get/" + test.name,
			Ours: getSide(g, ours, quick, engines.OpenPlugbus, (*engines.Plugbus).Sum),
			Peers: []compare.Peer{
				{Side: getSide(g, syncMap, quick, engines.OpenMap, (*engines.Map).Sum), Limit: limit},
				{Side: getSide(g, bolt, slow, engines.OpenBolt, (*engines.Bolt).Sum)},
				{Side: getSide(g, pebble, slow, engines.OpenPebble, (*engines.Pebble).Sum)},
			},
		})
	}
	g := gets{pairs, hot, 1}
	return append(all, compare.Workload{
		Name: "store/get/hot/copied",
		Ours: getSide(g, ours, quick, engines.OpenPlugbus, copied((*engines.Plugbus).SumCopies)),
		Peers: []compare.Peer{
			{Side: getSide(g, syncMap, quick, engines.OpenMap, copied((*engines.Map).SumCopies))},
		},
	})
}

// copied leaves out the last copy of what f returns.
func copied[E any](f func(E, []string) (uint64, []byte, error)) func(E, []string) (uint64, error) {
	return func(engine E, keys []string) (uint64, error) {
		sum, _, err := f(engine, keys)
		return sum, err
	}
}

// getSide is a side that gets all keys by sum, passes times a round.
func getSide[E getter](
	g gets, name string, passes int, open func(dir string) (E, error), sum func(engine E, keys []string) (uint64, error),
) compare.Side {
	return working(name, passes*g.readers*len(g.keys), func(dir string) (*compare.Trial, error) {
		engine, err := open(dir)
		if err != nil {
			return nil, err
		}
		if err := engine.Fill(g.pairs); err != nil {
			return nil, errors.Join(err, engine.Close())
		}
		return &compare.Trial{
			Round: func(measure compare.Measure) error {
				var got uint64
				err := measure(func() (err error) {
					got, err = g.read(passes, func(keys []string) (uint64, error) { return sum(engine, keys) })
					return err
				})
				if want := g.sum(passes); err == nil && got != want {
					return fmt.Errorf("the values that were got add up to %d; expected %d", got, want)
				}
				return err
			},
			Close: engine.Close,
		}, nil
	})
}

// read lets each reader get all keys, passes times, and returns the sum of the values.
func (g gets) read(passes int, sumOf func(keys []string) (uint64, error)) (uint64, error) {
	sums, errs := make([]uint64, g.readers), make([]error, g.readers)
	var readers sync.WaitGroup
	for i := range g.readers {
		start := len(g.keys) * i / g.readers
		readers.Go(func() {
			var sum uint64
			for range passes {
				first, err := sumOf(g.keys[start:])
				second, err2 := sumOf(g.keys[:start])
				if errs[i] = errors.Join(err, err2); errs[i] != nil {
					return
				}
				sum += first + second
			}
			sums[i] = sum
		})
	}
	readers.Wait()
	var sum uint64
	for _, s := range sums {
		sum += s
	}
	return sum, errors.Join(errs...)
}

// sum returns what the readers must add up to.
func (g gets) sum(passes int) uint64 {
	numbers := make(map[string]uint64, len(g.pairs))
	for _, p := range g.pairs {
		numbers[p.Key] = engines.Number(p.Value)
	}
	var sum uint64
	for _, key := range g.keys {
		sum += numbers[key]
	}
	return sum * uint64(passes*g.readers)
}
