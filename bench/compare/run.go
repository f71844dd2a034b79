package compare

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"strconv"
	"time"

	"github.com/plugbus/plugbus"
)

// Options configure a run. The zero value measures everything.
type Options struct {
	// Rounds is how often each side does its work, at most 1,000. If zero, it is 7.
	Rounds int

	// Dir is where a directory for the run is made, and removed at its end. If empty,
	// that is the system's directory for temporary files. What a sync costs, and so
	// most figures of durable work, depends on the disk that it is on.
	Dir string

	// Match chooses workloads by their names. If nil, it is all of them.
	Match *regexp.Regexp
}

// Run measures the workloads one after the other. The context is looked at between
// two turns.
//
// An error ends the run: plugbus.ErrInvalid if the options or the workloads are
// wrong, which is found out before anything runs, or no workload matches; the error
// of the context; and else that of a side.
func Run(ctx context.Context, workloads []Workload, o Options) (_ *Report, err error) {
	if o.Rounds < 0 || o.Rounds > 1000 {
		return nil, fmt.Errorf("compare: %w: Options.Rounds is %d; expected 1 to 1,000, or 0 for 7", plugbus.ErrInvalid, o.Rounds)
	}
	if o.Rounds == 0 {
		o.Rounds = 7
	}
	if err := check(workloads); err != nil {
		return nil, err
	}
	dir, err := os.MkdirTemp(o.Dir, "plugbus-compare-")
	if err != nil {
		return nil, fmt.Errorf("compare: make a directory for the run: %w", err)
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()

	report := &Report{Rounds: o.Rounds}
	for _, w := range workloads {
		if o.Match != nil && !o.Match.MatchString(w.Name) {
			continue
		}
		if err := report.add(ctx, w, filepath.Join(dir, "workload")); err != nil {
			return nil, fmt.Errorf("compare: workload %q: %w", w.Name, err)
		}
	}
	if len(report.Comparisons) == 0 {
		return nil, fmt.Errorf("compare: %w: no workload matches %q", plugbus.ErrInvalid, o.Match)
	}
	return report, nil
}

// add measures a workload, and adds the comparisons of ours with each peer.
func (r *Report) add(ctx context.Context, w Workload, dir string) (err error) {
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	var turns []*turn
	defer func() {
		for _, t := range turns {
			err = errors.Join(err, t.close())
		}
	}()
	for i, side := range w.sides() {
		t := &turn{side: side}
		if err := t.prepare(filepath.Join(dir, strconv.Itoa(i))); err != nil {
			return fmt.Errorf("prepare side %q: %w", side.Name, err)
		}
		turns = append(turns, t)
	}
	for round := range r.Rounds {
		for i := range turns {
			if err := ctx.Err(); err != nil {
				return err
			}
			t := turns[(round+i)%len(turns)]
			if err := t.take(); err != nil {
				return fmt.Errorf("round %d of side %q: %w", round+1, t.side.Name, err)
			}
		}
	}
	for i, p := range w.Peers {
		r.Comparisons = append(r.Comparisons, Comparison{
			Workload: w.Name, Peer: p.Name, Ours: turns[0].figure(), Theirs: turns[i+1].figure(), Limit: p.Limit,
		})
	}
	for _, t := range turns {
		r.guarantee(t.side)
	}
	return nil
}

// A turn is a side with what was measured of it, for one act.
type turn struct {
	side          Side
	trial         *Trial // nil for a bound
	nanos, allocs []float64
}

func (t *turn) prepare(dir string) (err error) {
	if t.side.Prepare == nil {
		return nil
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	t.trial, err = t.side.Prepare(dir)
	return err
}

// take lets the side do one round.
func (t *turn) take() error {
	if t.trial == nil {
		return nil
	}
	measured := 0
	err := t.trial.Round(func(work func() error) error {
		measured++
		return t.measure(work)
	})
	if err == nil && measured != 1 {
		err = fmt.Errorf("it measured %d times; expected once", measured)
	}
	return err
}

func (t *turn) measure(work func() error) error {
	runtime.GC()
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	start := time.Now()
	err := work()
	took := time.Since(start)
	runtime.ReadMemStats(&after)
	if err == nil && took <= 0 {
		err = fmt.Errorf("%d acts took no time that can be measured; give a round more", t.side.Acts)
	}
	acts := float64(t.side.Acts)
	t.nanos = append(t.nanos, float64(took)/acts)
	t.allocs = append(t.allocs, float64(after.Mallocs-before.Mallocs)/acts)
	return err
}

func (t *turn) figure() Figure {
	if t.trial == nil {
		return Figure{Nanos: float64(t.side.Bound), Bound: true}
	}
	return Figure{Nanos: median(t.nanos), Allocs: median(t.allocs)}
}

func (t *turn) close() error {
	if t.trial == nil || t.trial.Close == nil {
		return nil
	}
	if err := t.trial.Close(); err != nil {
		return fmt.Errorf("close side %q: %w", t.side.Name, err)
	}
	return nil
}
