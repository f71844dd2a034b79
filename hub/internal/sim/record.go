package sim

import (
	"fmt"
	"time"

	"github.com/plugbus/plugbus"
	"github.com/plugbus/plugbus/events"
	"github.com/plugbus/plugbus/store"
)

// A span is when something was done: a stamp and a time before it, and after it.
type span struct {
	begin, end uint64 // stamps; end is 0 while it is not done
	from, to   time.Time
}

func (s span) String() string { return fmt.Sprintf("[%d %d]", s.begin, s.end) }

// before reports whether s had ended when other began.
func (s span) before(other span) bool { return s.end != 0 && s.end < other.begin }

// begin notes that something begins.
func (w *World) begin() span { return span{begin: w.stamp.Add(1), from: time.Now()} }

// finish notes that it has ended.
func (w *World) finish(s *span) {
	s.to = time.Now()
	s.end = w.stamp.Add(1)
}

// An emission is one call of Emit or Broadcast.
type emission struct {
	span
	n         uint64
	by, name  string
	broadcast bool
	noHistory bool
	maxAge    time.Duration
	wait      bool // for room
	audience  events.Audience
	receipt   events.Receipt
	err       error
}

// A subscription is one call of Subscribe that went well.
type subscription struct {
	life       *life
	pattern    string
	made, left span
	from       string    // what of the history
	n          uint64    // of Last and After
	after      time.Time // of Since
	alike      bool      // it is the one that all lives of the plugin have
	once       bool
	filtered   bool // it has a filter
	concurrent bool
	most       int           // calls at a time, if it is concurrent
	buffer     int           // its own, or that of the world
	own        bool          // it has a queue of its own
	refuses    bool          // what comes when that is full
	timeout    time.Duration // of a call; 0 for none
	expires    time.Duration
	priority   int
	place      int // in the order of the plugin's
	handle     *events.Subscription

	// Under World.mu.
	got   []delivery
	calls uint64 // of the filter, or without one of the handler
	late  uint64 // that took longer than timeout
	quiet uint64 // the stamp after which no call begins
}

func (s *subscription) String() string {
	return fmt.Sprintf("%s: the subscription %d to %q (from %q, once %t, filtered %t, concurrent %t, for %v, made %v, left %v)",
		s.life.name(), s.place, s.pattern, s.from, s.once, s.filtered, s.concurrent, s.expires, s.made, s.left)
}

// since returns when the subscription was made, or, if it was held for a successor, when
// that had taken the place.
func (s *subscription) since() span {
	made := s.made
	if seated := s.life.seated.Load(); seated > made.end {
		made.end = seated
	}
	return made
}

// A delivery is one call of a handler of events.
type delivery struct {
	stamp     uint64
	at        time.Time
	seq, n    uint64
	missed    int
	replayed  bool
	truncated bool
}

// A message is one call of Send, Post, Stream, Call or Publish.
type message struct {
	span
	n        uint64
	from, to string // to is "" if the hub chooses
	kind     string
	typ      string // of its handler
	sure     bool   // nobody came to have the id of its target meanwhile, nor left it
	topic    string // of a publication
	priority plugbus.Priority
	maxAge   time.Duration
	err      error
	replied  bool
	accepted int // of a publication
	full     int // the same

	handled []handling // under World.mu
	resent  []*span    // when its dead letters were sent again; the same
}

// A handling is one call of a handler of messages.
type handling struct {
	stamp  uint64
	at     time.Time
	life   *life
	route  int  // of the life
	serial bool // it is on the plugin's worker
}

// A write is one call that changes one key of a store.
type write struct {
	span
	store, key string
	n          uint64
	by         string
	entry      store.Entry
	kind       string // "set", "create", "update", "delete" or "delete if"
	expected   uint64 // the revision that it was to change
	sure       bool   // nobody came to have the id of the owner meanwhile, nor left it
	err        error
}

// A look is one read of a key.
type look struct {
	span
	store, key string
	by         string
	revision   uint64 // of the entry
	expires    time.Time
	err        error
}

// A change is what a watch told.
type change struct {
	revision, old uint64 // old is that of the entry before it
	kind          store.Kind
	key           string
	n             uint64
	writer        string
	stamp         uint64
	at            time.Time // when it was told
	expires       time.Time
}
