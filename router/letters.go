package router

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/plugbus/plugbus"
	"github.com/plugbus/plugbus/internal/payload"
)

// A DeadLetter is a post or publication that was accepted and not handled.
type DeadLetter struct {
	Message

	Number  uint64          // by which it is sent again or discarded
	Outcome plugbus.Outcome // how the delivery ended
	Reason  string          // why, at most MaxTextBytes
	Died    time.Time       // when; the message says when it was sent

	cause  plugbus.Chain // what led to it
	shared bool
}

// Shared reports that the payload was passed by reference, and was not kept.
func (l *DeadLetter) Shared() bool { return l.shared }

// lost stands for a payload that was not kept. Data returns it as a string.
const lost = "plugbus: a shared payload is not kept"

// letters keep dead letters, in bounded number. When there is no room, those of
// the sender that has the most make way, the oldest first.
type letters struct {
	most  int
	bytes int64
	age   time.Duration

	mu      sync.Mutex // guards below; after all other locks
	next    uint64
	list    []*DeadLetter // the oldest first
	held    int64         // bytes
	senders map[string]*share
	evicted uint64
}

func (l *letters) init(o Options) {
	l.most, l.bytes, l.age = o.DeadLetters, o.DeadLetterBytes, o.DeadLetterAge
	l.senders = map[string]*share{}
}

// bury keeps a message that nobody waits for, and that was not handled. No method
// of why is a plugin's.
func (r *Router) bury(d *delivery, o plugbus.Outcome, why error) {
	l := &r.letters
	if d.msg.address.kind.awaited() || l.most == 0 {
		return
	}
	letter := &DeadLetter{Message: d.msg, Outcome: o, Reason: plugbus.CutText(why.Error()), Died: r.clock.Now(), cause: d.cause}
	if letter.shared = payload.IsShared(d.msg.frozen); letter.shared {
		letter.frozen = lost
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.prune(letter.Died)
	l.next++
	letter.Number = l.next
	l.add(letter)
}

// add puts a letter in its place, and makes room where that is needed: a letter
// counts with those of its sender before it is decided who has the most. l.mu is
// held.
func (l *letters) add(d *DeadLetter) {
	i, _ := l.find(d.Number)
	l.list = slices.Insert(l.list, i, d)
	l.held += int64(d.Size())
	s := l.senders[d.From()]
	if s == nil {
		s = &share{}
		l.senders[d.From()] = s
	}
	s.count++
	s.bytes += int64(d.Size())
	for len(l.list) > l.most {
		l.evict(func(s *share) int64 { return int64(s.count) })
	}
	for l.held > l.bytes {
		l.evict(func(s *share) int64 { return s.bytes })
	}
}

// evict takes the oldest letter of the senders that have the most of what there
// is too much of. l.mu is held.
func (l *letters) evict(has func(*share) int64) {
	most := int64(0)
	for _, s := range l.senders {
		most = max(most, has(s))
	}
	l.evicted++
	l.remove(slices.IndexFunc(l.list, func(d *DeadLetter) bool { return has(l.senders[d.From()]) == most }))
}

func (l *letters) find(number uint64) (i int, found bool) {
	return slices.BinarySearchFunc(l.list, number, func(d *DeadLetter, n uint64) int { return cmp.Compare(d.Number, n) })
}

// remove takes the i-th letter. l.mu is held.
func (l *letters) remove(i int) {
	d := l.list[i]
	l.list = slices.Delete(l.list, i, i+1)
	l.held -= int64(d.Size())
	s := l.senders[d.From()]
	s.count--
	s.bytes -= int64(d.Size())
	if s.count == 0 {
		delete(l.senders, d.From())
	}
}

// prune takes the letters that are too old. l.mu is held.
func (l *letters) prune(now time.Time) {
	for len(l.list) > 0 && now.Sub(l.list[0].Died) > l.age {
		l.evicted++
		l.remove(0)
	}
}

// DeadLetters returns the posts and publications that were accepted and not
// handled, the oldest first. They are kept in bounded number, size and age; when
// there is no room, those of the sender that has the most make way.
func (r *Router) DeadLetters() []DeadLetter {
	l := &r.letters
	l.mu.Lock()
	defer l.mu.Unlock()
	l.prune(r.clock.Now())
	all := make([]DeadLetter, len(l.list))
	for i, d := range l.list {
		all[i] = *d
	}
	return all
}

// Discard takes a dead letter away. The error matches [ErrNoLetter].
func (r *Router) Discard(number uint64) error {
	_, err := r.takeLetter(number)
	return err
}

func (r *Router) takeLetter(number uint64) (*DeadLetter, error) {
	l := &r.letters
	l.mu.Lock()
	defer l.mu.Unlock()
	l.prune(r.clock.Now())
	i, found := l.find(number)
	if !found {
		return nil, fmt.Errorf("%w: number %d", ErrNoLetter, number)
	}
	d := l.list[i]
	l.remove(i)
	return d, nil
}

// Resend sends a dead letter again: as a new message of its sender, through the
// sender's own door, to the recipient of the letter alone, at what was its chain.
// If it is accepted, the letter is gone. The error is that of [Client.Post], or
// matches [ErrNoLetter]; or, if the sender has left, [ErrUnknownTarget]; or, if the
// payload was not kept, [plugbus.ErrInvalid].
func (r *Router) Resend(ctx context.Context, number uint64) error {
	letter, err := r.takeLetter(number)
	if err != nil {
		return err
	}
	if err := r.resend(ctx, letter); err != nil {
		r.restore(letter)
		return fmt.Errorf("router: send dead letter %d again: %w", number, err)
	}
	return nil
}

func (r *Router) resend(ctx context.Context, letter *DeadLetter) error {
	if letter.Shared() {
		return fmt.Errorf("its payload was passed by reference and is not kept: %w", plugbus.ErrInvalid)
	}
	r.mu.Lock()
	b := r.boxes[letter.From()]
	r.mu.Unlock()
	var c *Client
	if b != nil {
		c = b.owner()
	}
	if c == nil {
		return fmt.Errorf("its sender %q: %w", letter.From(), ErrUnknownTarget)
	}
	o := &sendOptions{
		priority: letter.Priority(), headers: letter.Headers(), again: &letter.cause,
		correlation: letter.CorrelationID(), clientID: letter.ClientID(),
	}
	if letter.Kind() == KindPost {
		return c.post(ctx, letter.To(), letter.Type(), letter.Data(), o)
	}
	return c.republish(ctx, letter, o)
}

// restore puts a letter back that could not be sent again.
func (r *Router) restore(letter *DeadLetter) {
	l := &r.letters
	l.mu.Lock()
	defer l.mu.Unlock()
	l.add(letter)
}
