package sim

import (
	"context"
	"errors"
	"math/rand/v2"
	"runtime"
	"time"
)

// maxDepth is how deep handlers act in reply to what others did.
const maxDepth = 3

var errHandler = errors.New("the handler fails on purpose")

// behave does what a plugin does with what it got, which follows from the number of
// that.
func (l *life) behave(ctx context.Context, place string, n uint64, depth int) error {
	w := l.world
	r := dice(w.plan.Seed, n, l.id, place)
	at := r.IntN(1000)
	if w.plan.Profile == Calm {
		at += 300 // Only the acts, and few of them.
	}
	switch {
	case at < 40:
		return errHandler
	case at < 60:
		return l.sleep(ctx, r)
	case at < 90 && w.plan.Profile == Wild:
		return l.misbehave(ctx, r)
	case at < 300 || at >= 960 || depth >= maxDepth:
		return nil
	case at < 420:
		l.emit(ctx, r, mix(n, textHash(place+l.id)), depth+1)
	case at < 500:
		l.message(ctx, r, mix(n, textHash(place+l.id)), depth+1)
	case at < 530:
		l.change(ctx, r, mix(n, textHash(place+l.id)))
	case at < 540:
		l.subscribe(r)
	case at < 550:
		l.unsubscribe(ctx, r)
	case at < 554 && w.plan.Profile == Wild:
		w.unregister(ctx, w.slots[l.id])
	case at < 558 && w.plan.Profile == Wild:
		w.replace(ctx, w.slots[l.id], r, true)
	case at < 559 && w.plan.Profile == Wild && depth == maxDepth-1:
		w.in(time.Hour, "Close inside of a plugin", func() { w.beginClose(); w.closed(w.hub.Close(ctx)) })
	}
	return nil
}

// sleep takes its time, and may or may not obey its context.
func (l *life) sleep(ctx context.Context, r *rand.Rand) error {
	timer := time.After(time.Duration(r.Int64N(int64(2 * time.Second))))
	if chance(r, 500) {
		<-timer
		return nil
	}
	select {
	case <-timer:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// misbehave does what no handler should.
func (l *life) misbehave(ctx context.Context, r *rand.Rand) error {
	switch r.IntN(10) {
	case 0, 1, 2, 3:
		panic("on purpose")
	case 4, 5:
		runtime.Goexit()
	case 6, 7:
		select {
		case <-ctx.Done():
		case <-l.world.release:
		}
		return ctx.Err()
	case 8:
		<-l.world.release
	}
	return nil
}
