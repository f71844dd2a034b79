package store_test

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/plugbus/plugbus"
	"github.com/plugbus/plugbus/store"
)

// remote returns what a validator said in err.
func remote(t testing.TB, err error) *plugbus.RemoteError {
	t.Helper()
	require.ErrorIs(t, err, store.ErrRejected)
	e, ok := errors.AsType[*plugbus.RemoteError](err)
	require.True(t, ok, "%v", err)
	return e
}

// TestValidator shows that a validator is asked before a write can be seen, with the state
// as it would be, for one key and for a transaction, and decides (D11).
func TestValidator(t *testing.T) {
	for _, persistent := range []bool{false, true} {
		st := newStage(t, store.Options{Backend: newShelf()})
		owner, writer := st.join(t, "owner"), st.join(t, "writer")
		var seen []string
		inside := func(string) string { return "" }
		v := create(t, owner, "s", store.Config{
			Persistent: persistent, Write: []string{"writer"}, Read: []string{"writer"},
			Validator: func(_ context.Context, p *store.Proposal) error {
				seen = seen[:0]
				for _, e := range p.Edits() {
					seen = append(seen, fmt.Sprintf("%s: %q %d -> %q %t, now %q", e.Key, e.Old.Text(), e.Old.Revision(), e.New.Text(), e.New.Exists(), inside(e.Key)))
				}
				seen = append(seen, fmt.Sprintf("%s by %s: a=%q b=%q c=%q", p.Store(), p.Writer(), p.Get("a").Text(), p.Get("b").Text(), p.Get("c").Text()))
				if p.Get("a").Text() == "bad" {
					return errors.New("a is bad")
				}
				return nil
			},
		})
		set(t, v, "a", "0")
		inside = func(key string) string {
			e, err := v.Get(context.Background(), key)
			if err != nil {
				return ""
			}
			return e.Text()
		}
		w := view(t, writer, "s")
		set(t, w, "c", "3")
		require.Equal(t, []string{`c: "" 0 -> "3" true, now ""`, `s by writer: a="0" b="" c="3"`}, seen)
		require.NoError(t, w.Txn(t.Context(), func(tx *store.Tx) error {
			return errors.Join(tx.Set("a", []byte("1")), tx.Set("b", []byte("2")), tx.Delete("c"))
		}))
		require.Equal(t, []string{
			`a: "0" 1 -> "1" true, now "0"`, `b: "" 0 -> "2" true, now ""`, `c: "3" 2 -> "" false, now "3"`,
			`s by writer: a="1" b="2" c=""`,
		}, seen)

		_, err := w.Set(t.Context(), "a", []byte("bad"))
		require.Equal(t, plugbus.ReasonRejected, denied(t, err).Reason)
		require.Equal(t, plugbus.RemoteError{Plugin: "owner", Code: plugbus.CodeInvalid, Message: "a is bad"}, *remote(t, err))
		err = w.Txn(t.Context(), func(tx *store.Tx) error {
			return errors.Join(tx.Set("a", []byte("bad")), tx.Set("b", []byte("9")))
		})
		require.Equal(t, "a is bad", remote(t, err).Message)
		require.Equal(t, map[string]string{"a": "1", "b": "2"}, content(t, w))
		require.Empty(t, st.failed(), "to reject is no failure")
	}
}

// TestValidatorRunsOnTheWorker shows that a validator and the watchers of its plugin run
// one at a time; the race detector looks, too.
func TestValidatorRunsOnTheWorker(t *testing.T) {
	st := newStage(t, store.Options{})
	owner := st.join(t, "owner")
	plain := 0 // What they guard by being one at a time.
	v := create(t, owner, "s", store.Config{Write: []string{store.Everyone}, Validator: func(context.Context, *store.Proposal) error { plain++; return nil }})
	watch(t, v, func(context.Context, store.Change) error { plain++; return nil })
	var writers sync.WaitGroup
	for n := range 4 {
		w := view(t, st.join(t, fmt.Sprint("writer", n)), "s")
		writers.Go(func() {
			for i := range 50 {
				set(t, w, fmt.Sprint(n), fmt.Sprint(i))
			}
		})
	}
	writers.Wait()
	st.rest(t)
	require.Equal(t, 400, plain)
}

// TestFailingValidator shows that a validator which panics, ends its goroutine, or whose
// error does, rejects the write; the host hears whose fault it was (D11).
func TestFailingValidator(t *testing.T) {
	for _, test := range []struct {
		fail func() error
		want string
	}{
		{func() error { panic("no luck") }, "it panicked: no luck"},
		{func() error { runtime.Goexit(); return nil }, store.ErrGoexit.Error()},
		{func() error { return trap(func() { panic("no text") }) }, "it panicked: no text"},
		{func() error { return trap(runtime.Goexit) }, store.ErrGoexit.Error()},
	} {
		st := newStage(t, store.Options{})
		fail := func() error { return nil }
		v := create(t, st.join(t, "owner"), "s", store.Config{Write: []string{"writer"}, Validator: func(context.Context, *store.Proposal) error { return fail() }})
		w := view(t, st.join(t, "writer"), "s")
		fail = test.fail
		_, err := w.Set(t.Context(), "k", nil)
		require.Equal(t, plugbus.ReasonCheckFailed, denied(t, err).Reason)
		require.Equal(t, plugbus.RemoteError{Plugin: "owner", Code: plugbus.CodeInternal, Message: test.want}, *remote(t, err))
		require.Equal(t, []string{`owner: validator of s for writer "k": ` + test.want}, st.failed())
		fail = func() error { return nil }
		set(t, w, "k", "1")
		require.Equal(t, map[string]string{"k": "1"}, content(t, v))
	}
}

// A trap is an error whose text cannot be had.
type trap func()

func (f trap) Error() string { f(); return "" }

// TestSpoofedVerdict shows that a validator's own error is a rejection whatever it
// pretends to be.
func TestSpoofedVerdict(t *testing.T) {
	for _, verdict := range []error{store.ErrTimedOut, store.ErrGoexit, store.ErrNoValidator, &store.PanicError{}, &store.ConflictError{Key: "k"}} {
		st := newStage(t, store.Options{})
		v := create(t, st.join(t, "owner"), "s", store.Config{Validator: func(context.Context, *store.Proposal) error { return verdict }})
		_, err := v.Set(t.Context(), "k", nil)
		require.Equal(t, plugbus.ReasonRejected, denied(t, err).Reason)
		require.NotErrorIs(t, err, verdict)
		require.Empty(t, st.failed())
	}
}

// TestHungValidator shows that a validator has its time, and that after it the write is
// rejected, even if the validator, or the text of its error, never comes (D11).
func TestHungValidator(t *testing.T) {
	for _, inError := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			st := newStage(t, store.Options{ValidateLimit: time.Second})
			hold := make(chan struct{})
			create(t, st.join(t, "owner"), "s", store.Config{Write: []string{"writer"}, Validator: func(context.Context, *store.Proposal) error {
				if inError {
					return trap(func() { <-hold })
				}
				<-hold
				return nil
			}})
			begun := time.Now()
			_, err := view(t, st.join(t, "writer"), "s").Set(t.Context(), "k", nil)
			require.Equal(t, time.Second, time.Since(begun))
			require.Equal(t, plugbus.ReasonCheckFailed, denied(t, err).Reason)
			require.Equal(t, store.ErrTimedOut.Error(), remote(t, err).Message)
			require.Equal(t, []string{`owner: validator of s for writer "k": abandoned: ` + store.ErrTimedOut.Error()}, st.failed())
			require.Len(t, st.Leaks(), 1)
			require.Equal(t, "validator", st.Leaks()[0].What)
			require.NoError(t, st.Idle(t.Context()))
			close(hold)
			synctest.Wait()
			require.Empty(t, st.Leaks())
			require.Zero(t, st.Stats().Stores[0].Keys, "what it says later is thrown away")
		})
	}
}

// TestValidatorHasItsTime shows that a write which waited long for its turn takes nothing
// from the time of the validator: a plugin is blamed only for what it did.
func TestValidatorHasItsTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		st := newStage(t, store.Options{ValidateLimit: time.Second})
		owner := st.join(t, "owner")
		v := create(t, owner, "s", store.Config{Write: []string{"writer"}, Validator: func(context.Context, *store.Proposal) error {
			<-time.After(900 * time.Millisecond)
			return nil
		}})
		thaw := st.freeze(t, "owner")
		time.AfterFunc(900*time.Millisecond, thaw)
		w := view(t, st.join(t, "writer"), "s")
		set(t, w, "k", "1")
		require.Empty(t, st.failed())
		require.Equal(t, map[string]string{"k": "1"}, content(t, v))

		thaw = st.freeze(t, "owner")
		begun := time.Now()
		_, err := w.Set(t.Context(), "k", nil)
		require.Equal(t, time.Second, time.Since(begun))
		require.ErrorIs(t, err, store.ErrBusy)
		require.ErrorIs(t, err, store.ErrNotDone)
		require.Empty(t, st.failed())
		thaw()
	})
}

// TestWriterLeavesTheValidator shows that a writer is released by its context and by its
// own end, and that nothing is done then, whatever the validator says later.
func TestWriterLeavesTheValidator(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for _, begun := range []bool{false, true} {
			for _, leave := range []bool{false, true} {
				st := newStage(t, store.Options{})
				hold := make(chan struct{})
				v := create(t, st.join(t, "owner"), "s", store.Config{Write: []string{"writer"}, Validator: func(context.Context, *store.Proposal) error { <-hold; return nil }})
				writer := st.join(t, "writer")
				w := view(t, writer, "s")
				thaw := func() {}
				if !begun {
					thaw = st.freeze(t, "owner")
				}
				ctx, cancel := context.WithCancel(t.Context())
				done := make(chan error)
				go func() { _, err := w.Set(ctx, "k", nil); done <- err }()
				synctest.Wait()
				want := context.Canceled
				if leave {
					want = store.ErrClosed
					require.NoError(t, writer.Close(t.Context()))
				}
				cancel()
				err := <-done
				require.ErrorIs(t, err, want)
				require.ErrorIs(t, err, store.ErrNotDone)
				close(hold)
				thaw()
				st.rest(t)
				require.Empty(t, content(t, v))
				require.Empty(t, st.failed(), "nobody is to blame")
			}
		}
	})
}

// TestOwnerLeaves shows that nobody can write while the owner is away, and that it sets the
// validator again when it has joined (D11).
func TestOwnerLeaves(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		st := newStage(t, store.Options{})
		owner := st.join(t, "owner")
		hold := make(chan struct{})
		create(t, owner, "s", store.Config{Write: []string{"writer"}, Read: []string{"writer"}, Validator: func(context.Context, *store.Proposal) error { <-hold; return nil }})
		w := view(t, st.join(t, "writer"), "s")
		done := make(chan error, 2)
		for i := range 2 { // One is decided about, the other waits.
			go func() { _, err := w.Set(t.Context(), fmt.Sprint(i), nil); done <- err }()
		}
		synctest.Wait()
		require.Equal(t, 1, st.Stats().Clients[0].Waiting)
		closed := make(chan error)
		go func() { closed <- owner.Close(context.Background()) }()
		synctest.Wait()
		err := <-done
		require.ErrorIs(t, err, store.ErrNoValidator)
		require.ErrorIs(t, err, store.ErrNotDone)
		_, err = w.Set(t.Context(), "k", nil)
		require.ErrorIs(t, err, store.ErrNoValidator, "it takes no more while it waits for the last")
		close(hold)
		require.NoError(t, <-closed)
		if err := <-done; err != nil { // What ran has decided, and then the owner may be faster.
			require.ErrorIs(t, err, store.ErrNoValidator)
		}

		_, err = w.Set(t.Context(), "k", nil)
		require.ErrorIs(t, err, store.ErrNoValidator)
		require.ErrorContains(t, err, `until its owner "owner" has joined and called View.SetValidator`)
		require.True(t, st.Stats().Stores[0].Guarded)
		require.True(t, st.Stats().Stores[0].Away)

		again := view(t, st.join(t, "owner"), "s")
		_, err = w.Set(t.Context(), "k", nil)
		require.ErrorIs(t, err, store.ErrNoValidator)
		require.NoError(t, again.SetValidator(t.Context(), func(context.Context, *store.Proposal) error { return errors.New("no") }))
		_, err = w.Set(t.Context(), "k", nil)
		require.Equal(t, "no", remote(t, err).Message)
		require.NoError(t, again.SetValidator(t.Context(), nil))
		set(t, w, "k", "")
		require.False(t, st.Stats().Stores[0].Guarded)
	})
}

// TestSetValidatorIsTheOwners shows that not even an admin, or the host, sets the validator
// of another's store.
func TestSetValidatorIsTheOwners(t *testing.T) {
	st := newStage(t, store.Options{})
	create(t, st.join(t, "owner"), "s", store.Config{Admin: []string{"admin"}})
	for id, super := range map[string]bool{"admin": false, "host": true} {
		v := view(t, st.join(t, id, store.ClientOptions{Superuser: super}), "s")
		err := v.SetValidator(t.Context(), nil)
		require.Equal(t, "only the owner of a store sets its validator", denied(t, err).Hint)
	}
}

// TestValidatorIsAskedAgain shows that a write is done only if what its validator saw is
// still so: with otherwise a new question, and no error for the writer (D11).
func TestValidatorIsAskedAgain(t *testing.T) {
	for _, persistent := range []bool{false, true} {
		st := newStage(t, store.Options{Backend: newShelf()})
		asked := 0
		owner := st.join(t, "owner")
		interfere := func() {}
		v := create(t, owner, "s", store.Config{Persistent: persistent, Write: []string{"writer"}, Validator: func(_ context.Context, p *store.Proposal) error {
			if p.Writer() != "writer" {
				return nil
			}
			asked++
			limit := p.Get("limit").Text()
			interfere()
			if len(p.Get("k").Text()) > len(limit) {
				return errors.New("over the limit")
			}
			return nil
		}})
		set(t, v, "limit", "...")
		w := view(t, st.join(t, "writer"), "s")
		interfere = func() {
			interfere = func() {}
			// The validator of now allows it, so that it does not wait for itself.
			require.NoError(t, v.SetValidator(context.Background(), nil))
			set(t, v, "limit", ".")
			require.NoError(t, v.SetValidator(context.Background(), func(_ context.Context, p *store.Proposal) error {
				asked++
				if len(p.Get("k").Text()) > len(p.Get("limit").Text()) {
					return errors.New("over the limit")
				}
				return nil
			}))
		}
		_, err := w.Set(t.Context(), "k", []byte("xx"))
		require.Equal(t, "over the limit", remote(t, err).Message)
		require.Equal(t, 2, asked)
	}
}

// TestValidatorSawWhatExpired shows that what a validator saw counts also if time takes it
// away meanwhile (D11).
func TestValidatorSawWhatExpired(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		st := newStage(t, store.Options{})
		asked := 0
		v := create(t, st.join(t, "owner"), "s", store.Config{Validator: func(_ context.Context, p *store.Proposal) error {
			if p.Edits()[0].Key == "lease" {
				return nil
			}
			asked++
			held := p.Get("lease").Exists()
			<-time.After(2 * time.Second)
			if !held {
				return errors.New("no lease")
			}
			return nil
		}})
		set(t, v, "lease", "", store.TTL(time.Second))
		_, err := v.Set(t.Context(), "k", nil)
		require.Equal(t, "no lease", remote(t, err).Message)
		require.Equal(t, 2, asked)
	})
}

// TestInvariantUnderRace has many move between two keys whose sum a validator bounds: no
// interleaving breaks it, and it never sees a state that was not (D11).
func TestInvariantUnderRace(t *testing.T) {
	for _, persistent := range []bool{false, true} {
		st := newStage(t, store.Options{Backend: newShelf()})
		v := create(t, st.join(t, "owner"), "s", store.Config{Persistent: persistent, Write: []string{store.Everyone}, Read: []string{store.Everyone}, Validator: func(_ context.Context, p *store.Proposal) error {
			if a, b := len(p.Get("a").Text()), len(p.Get("b").Text()); a+b > 10 {
				return fmt.Errorf("%d+%d", a, b)
			}
			return nil
		}})
		var rejected, done atomic.Int64
		var writers sync.WaitGroup
		for n := range 4 {
			w := view(t, st.join(t, fmt.Sprint("writer", n)), "s")
			writers.Go(func() {
				for i := range 100 {
					_, err := w.Set(t.Context(), string(rune('a'+(i+n)%2)), make([]byte, (i*7+n*3)%11))
					if err == nil {
						done.Add(1)
						continue
					}
					require.ErrorIs(t, err, store.ErrRejected)
					rejected.Add(1)
				}
			})
		}
		writers.Wait()
		require.Positive(t, done.Load())
		require.Positive(t, rejected.Load())
		all := content(t, v)
		require.LessOrEqual(t, len(all["a"])+len(all["b"]), 10)
	}
}

// TestValidatorReadsABoundedNumber shows that a validator which reads too much is not
// shown that there is nothing: the write is rejected.
func TestValidatorReadsABoundedNumber(t *testing.T) {
	st := newStage(t, store.Options{})
	reads := 9_999
	var last *store.Proposal
	v := create(t, st.join(t, "owner"), "s", store.Config{Validator: func(_ context.Context, p *store.Proposal) error {
		last = p
		for i := range reads {
			p.Get(fmt.Sprint("k", i))
			p.Get(fmt.Sprint("k", i))
		}
		return nil
	}})
	set(t, v, "own", "")
	set(t, v, "other", "")
	reads++
	_, err := v.Set(t.Context(), "own", nil)
	require.Equal(t, plugbus.ReasonCheckFailed, denied(t, err).Reason)
	require.Equal(t, "it read more than 10000 keys", remote(t, err).Message)
	require.Len(t, st.failed(), 1)
	require.False(t, last.Get("other").Exists(), "it is over")
}
