package router

import "time"

// armWatch sees to it that handlers which run long are noticed.
func (r *Router) armWatch() {
	if r.opts.OnSlow == nil || r.watching.Load() || r.watching.Swap(true) {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	switch {
	case r.shut:
	case r.watch == nil:
		r.watch = time.AfterFunc(r.opts.SlowAfter, r.look)
	default:
		r.watch.Reset(r.opts.SlowAfter)
	}
}

// look finds the handlers that ran at the last look already.
func (r *Router) look() {
	r.watching.Store(false)
	var slow []Slow
	busy := false
	r.mu.Lock()
	for b := range r.everyBox() {
		b.mu.Lock()
		for d := b.running; d != nil; d = d.next {
			busy = busy || b.state != closed || d.looks < 2
			if d.looks++; d.looks == 2 {
				slow = append(slow, Slow{b.id, d.msg.address.name, d.site(), d.runner.owner, r.opts.SlowAfter})
			}
		}
		busy = busy || b.waiting > 0
		b.mu.Unlock()
	}
	r.mu.Unlock()
	if busy {
		r.armWatch()
	}
	for _, s := range slow {
		r.opts.OnSlow(s)
	}
}
