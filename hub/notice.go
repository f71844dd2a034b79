package hub

import (
	"log/slog"
	"sync"
	"time"

	EventBus "github.com/asaskevich/EventBus"
)

// A Notice is what the hub tells about itself: the payload of its own events,
// and the argument of handlers on the host's notice board. It says no more of a
// plugin than everybody may know.
type Notice struct {
	Event   string // such as "plugin:registered"
	Plugin  string // whom it is about
	Version string // of the plugin, where it matters
	Reason  string // why, in a few words
	Time    time.Time
}

// The events of the hub.
const (
	EventRegistered   = "plugin:registered"
	EventUnregistered = "plugin:unregistered"
	EventReplaced     = "plugin:replaced"
	EventQuarantined  = "plugin:quarantined" // Reason is "host", or what was too much
	EventRestored     = "plugin:restored"    // Reason is "probe" or "host"
	EventAlert        = "security:alert"
)

// A desk calls the host's code: one call at a time, in order, on a goroutine
// that exists while there is something to do. What finds the queue full is
// dropped and counted.
type desk struct {
	logger *slog.Logger

	mu      sync.Mutex // guards below
	queue   []func()
	running bool
	closed  bool
	hung    bool // Close has given up on a call
	dropped uint64
	panics  uint64
	done    chan struct{} // closed when closed and not running
}

// deskQueue bounds the calls that wait.
const deskQueue = 1024

func newDesk(logger *slog.Logger) *desk {
	return &desk{logger: logger, done: make(chan struct{})}
}

// put queues a call.
func (d *desk) put(call func()) { d.putWithin(deskQueue, call) }

// putWithin queues a call if fewer than room wait.
func (d *desk) putWithin(room int, call func()) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.closed || len(d.queue) >= room {
		d.dropped++
		return
	}
	d.queue = append(d.queue, call)
	if !d.running {
		d.running = true
		go d.run() // Ends when the queue is empty; close waits for it.
	}
}

func (d *desk) run() {
	orderly := false
	defer func() {
		if !orderly { // The host's code ended this goroutine.
			go d.run()
		}
	}()
	for {
		d.mu.Lock()
		if len(d.queue) == 0 {
			d.queue, d.running, d.hung = nil, false, false
			if d.closed {
				close(d.done)
			}
			d.mu.Unlock()
			orderly = true
			return
		}
		call := d.queue[0]
		d.queue = d.queue[1:]
		d.mu.Unlock()
		d.call(call)
	}
}

func (d *desk) call(f func()) {
	orderly := false
	defer func() {
		if orderly {
			return
		}
		err := failure("it", recover())
		d.mu.Lock()
		d.panics++
		d.mu.Unlock()
		d.logger.Error("a notice handler or callback of the host did not return; EventBus handlers must have the form func(hub.Notice)", "error", err)
	}()
	f()
	orderly = true
}

// close takes no more calls. The channel is closed when the last one has
// returned.
func (d *desk) close() <-chan struct{} {
	d.mu.Lock()
	defer d.mu.Unlock()
	if !d.closed {
		d.closed = true
		if !d.running {
			close(d.done)
		}
	}
	return d.done
}

// giveUp drops what waits behind a call that has not returned.
func (d *desk) giveUp() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.dropped += uint64(len(d.queue))
	d.queue, d.hung = nil, d.running
}

// hangs reports whether Close has given up on a call that has not returned.
func (d *desk) hangs() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.hung
}

// DeskStats say how the calls into the host's own code fare.
type DeskStats struct {
	Waiting int
	Dropped uint64 // because the queue was full, or the hub closed
	Panics  uint64 // of the host's code, or ends of its goroutine
}

func (d *desk) stats() DeskStats {
	d.mu.Lock()
	defer d.mu.Unlock()
	return DeskStats{len(d.queue), d.dropped, d.panics}
}

// post puts a notice on the host's board.
func (d *desk) post(board EventBus.BusPublisher, n Notice) {
	if board == nil {
		return
	}
	room := deskQueue
	if n.Event == EventRequirementLost { // A plugin makes as many as it likes, and must not keep its alerts from the host so.
		room /= 2
	}
	d.putWithin(room, func() { board.Publish(n.Event, n) })
}
