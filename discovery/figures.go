package discovery

import (
	"slices"
	"sync"
	"time"
)

// A Figure is what is known of a provider in one respect. The zero Figure is
// unknown.
type Figure[T float64 | time.Duration] struct {
	Value    T    // 0 if it is not known
	Known    bool // of every capability that matters
	Measured bool // and not only declared
	Samples  int  // calls that it was measured by
}

// Figures are the worst of the capabilities that matter.
type Figures struct {
	Cost         Figure[float64] // declared
	Reliability  Figure[float64] // the share of calls that succeeded
	ResponseTime Figure[time.Duration]
}

// A Sample is how one call ended. Only what the provider is to blame for is a
// failure: not a request that was refused or invalid, nor a deadline that the
// caller chose.
type Sample struct {
	Provider, Capability, Caller string

	OK   bool
	Took time.Duration // until the reply; what is less than 0 counts as 0
}

// A window has the latest calls of one capability of one provider.
type window struct {
	mu      sync.Mutex // guards below
	samples []Sample   // the oldest first
	good    int        // of them, those that are OK
	took    time.Duration
}

// observe adds a call to a window of at most size calls, of which one caller has
// at most a quarter: it replaces its own oldest then.
func (w *window) observe(s Sample, size int) {
	s.Took = min(max(s.Took, 0), MaxResponseTime) // The sum cannot overflow.
	w.mu.Lock()
	defer w.mu.Unlock()
	sameCaller := func(o Sample) bool { return o.Caller == s.Caller }
	of := 0
	for _, o := range w.samples {
		if sameCaller(o) {
			of++
		}
	}
	if of >= max(1, size/4) {
		w.remove(slices.IndexFunc(w.samples, sameCaller))
	} else if len(w.samples) >= size {
		w.remove(0)
	}
	w.samples = append(w.samples, s)
	if s.OK {
		w.good++
		w.took += s.Took
	}
}

func (w *window) remove(i int) {
	if s := w.samples[i]; s.OK {
		w.good--
		w.took -= s.Took
	}
	w.samples = slices.Delete(w.samples, i, i+1)
}

func (w *window) empty() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return len(w.samples) == 0
}

// figures returns what is known of a capability: what was measured, if there are
// at least so many samples, and otherwise what was declared.
func (r *record) figures(enough int) Figures {
	f := Figures{Cost: declared(r.Cost), Reliability: declared(r.Reliability), ResponseTime: declared(r.ResponseTime)}
	w := r.window
	w.mu.Lock()
	defer w.mu.Unlock()
	if n := len(w.samples); n >= enough {
		f.Reliability = Figure[float64]{float64(w.good) / float64(n), true, true, n}
	}
	if w.good >= enough {
		f.ResponseTime = Figure[time.Duration]{w.took / time.Duration(w.good), true, true, w.good}
	}
	return f
}

func declared[T float64 | time.Duration](p *T) Figure[T] {
	if p == nil {
		return Figure[T]{}
	}
	return Figure[T]{Value: *p, Known: true}
}

// A worst is the worst of several figures.
type worst[T float64 | time.Duration] struct {
	figure  Figure[T] // of those that are known
	unknown bool      // some are not
}

// add takes one more figure. Of two equal ones that with fewer samples counts.
func (w *worst[T]) add(f Figure[T], worse func(a, b T) bool) {
	switch {
	case !f.Known:
		w.unknown = true
	case !w.figure.Known || worse(f.Value, w.figure.Value) || f.Value == w.figure.Value && f.Samples < w.figure.Samples:
		w.figure = f
	}
}

// result is unknown if anything is.
func (w *worst[T]) result() Figure[T] {
	if w.unknown {
		return Figure[T]{}
	}
	return w.figure
}

// within reports whether all that is known is within a limit, and something is;
// and all of it, unless unknown figures are allowed.
func (w *worst[T]) within(limit T, beyond func(a, b T) bool, allowUnknown bool) bool {
	if w.figure.Known && beyond(w.figure.Value, limit) {
		return false
	}
	return allowUnknown || !w.unknown && w.figure.Known
}

func more[T float64 | time.Duration](a, b T) bool { return a > b }
func less[T float64 | time.Duration](a, b T) bool { return a < b }
