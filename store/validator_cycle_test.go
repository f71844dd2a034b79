package store_test

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/plugbus/plugbus"
	"github.com/plugbus/plugbus/store"
)

// TestValidatorInline shows that the owner writes from its own handlers: its validator is
// called there and then, with a deadline, and its failure is rejected and told as any (D11).
func TestValidatorInline(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		st := newStage(t, store.Options{ValidateLimit: time.Second})
		owner := st.join(t, "owner")
		var check store.Validator
		v := create(t, owner, "s", store.Config{Validator: func(ctx context.Context, p *store.Proposal) error { return check(ctx, p) }})
		trigger := create(t, owner, "trigger", store.Config{})
		var err error
		watch(t, trigger, func(ctx context.Context, _ store.Change) error {
			_, err = v.Set(ctx, "k", []byte("1"))
			return nil
		})
		for _, test := range []struct {
			check    store.Validator
			want     plugbus.Reason
			failures int
		}{
			{func(context.Context, *store.Proposal) error { return nil }, "", 0},
			{func(context.Context, *store.Proposal) error { return context.Canceled }, plugbus.ReasonRejected, 0},
			{func(context.Context, *store.Proposal) error { panic("no luck") }, plugbus.ReasonCheckFailed, 1},
			{func(ctx context.Context, _ *store.Proposal) error { <-ctx.Done(); return nil }, plugbus.ReasonCheckFailed, 2},
		} {
			check = test.check
			set(t, trigger, "k", "")
			st.rest(t)
			require.Len(t, st.failed(), test.failures)
			if test.want == "" {
				require.NoError(t, err)
				continue
			}
			require.Equal(t, test.want, denied(t, err).Reason)
		}
	})
}

// TestValidatorThatWritesItsStore shows that a validator cannot write to its own store,
// which would ask it again without end: that is refused as a cycle, at once.
func TestValidatorThatWritesItsStore(t *testing.T) {
	for _, writer := range []string{"owner", "writer"} {
		st := newStage(t, store.Options{})
		var v *store.View
		var inner error
		v = create(t, st.join(t, "owner"), "s", store.Config{Write: []string{"writer"}, Validator: func(ctx context.Context, _ *store.Proposal) error {
			_, inner = v.Set(ctx, "other", nil)
			return nil
		}})
		w := v
		if writer != "owner" {
			w = view(t, st.join(t, writer), "s")
		}
		set(t, w, "k", "")
		require.Equal(t, plugbus.ReasonCycle, denied(t, inner).Reason)
		require.Equal(t, map[string]string{"k": ""}, content(t, v))
	}
}

// TestValidatorThatWritesElsewhere shows that a validator may write to another store of its
// plugin, whose validator is called there and then; and that they cannot go on for ever.
func TestValidatorThatWritesElsewhere(t *testing.T) {
	st := newStage(t, store.Options{})
	owner := st.join(t, "owner")
	var logged, main *store.View
	var back error
	logged = create(t, owner, "log", store.Config{Validator: func(ctx context.Context, p *store.Proposal) error {
		_, back = main.Set(ctx, "k", nil)
		return nil
	}})
	main = create(t, owner, "main", store.Config{Write: []string{"writer"}, Validator: func(ctx context.Context, p *store.Proposal) error {
		_, err := logged.Set(ctx, "last", []byte(p.Writer()))
		return err
	}})
	set(t, view(t, st.join(t, "writer"), "main"), "k", "1")
	require.Equal(t, map[string]string{"last": "writer"}, content(t, logged))
	require.Equal(t, plugbus.ReasonCycle, denied(t, back).Reason)
}

// TestCycleOfValidators shows that a write which would wait for itself, by way of validators
// of two plugins, is refused at once with the chain; and that one which would not is done.
func TestCycleOfValidators(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		st := newStage(t, store.Options{})
		a, b := st.join(t, "a"), st.join(t, "b")
		var inner error
		var toA *store.View
		ofA := create(t, a, "of.a", store.Config{Write: []string{"b"}, Validator: func(context.Context, *store.Proposal) error { return nil }})
		ofB := create(t, b, "of.b", store.Config{Write: []string{"a"}, Validator: func(ctx context.Context, _ *store.Proposal) error {
			_, inner = toA.Set(ctx, "k", []byte("from b"))
			return nil
		}})
		toA = view(t, b, "of.a")
		toB := view(t, a, "of.b")

		set(t, toB, "k", "") // From no handler of a, whose worker is free.
		require.NoError(t, inner)
		require.Equal(t, map[string]string{"k": "from b"}, content(t, ofA))

		trigger := create(t, a, "trigger", store.Config{})
		var outer error
		watch(t, trigger, func(ctx context.Context, _ store.Change) error {
			_, outer = toB.Set(ctx, "k", nil)
			return nil
		})
		begun := time.Now()
		set(t, trigger, "k", "")
		st.rest(t)
		require.Equal(t, begun, time.Now(), "at once")
		require.NoError(t, outer)
		refusal := denied(t, inner)
		require.Equal(t, plugbus.ReasonCycle, refusal.Reason)
		require.Equal(t, []string{"a", "a", "b"}, refusal.Chain.Plugins())
		require.Equal(t, map[string]string{"k": ""}, content(t, ofB))
	})
}

// TestWriteWithoutTheContext shows that the owner which writes from its handler, but with
// another context, waits for its own worker only as long as a write waits.
func TestWriteWithoutTheContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		st := newStage(t, store.Options{ValidateLimit: time.Second})
		owner := st.join(t, "owner")
		v := create(t, owner, "s", store.Config{Validator: func(context.Context, *store.Proposal) error { return nil }})
		trigger := create(t, owner, "trigger", store.Config{})
		var err error
		watch(t, trigger, func(context.Context, store.Change) error {
			_, err = v.Set(context.Background(), "k", nil) //nolint:contextcheck // That is the test.
			return nil
		})
		begun := time.Now()
		set(t, trigger, "k", "")
		st.rest(t)
		require.Equal(t, time.Second, time.Since(begun))
		require.ErrorIs(t, err, store.ErrBusy)
		require.ErrorContains(t, err, "pass on the context of its handler")
		require.Empty(t, st.failed())
	})
}

// TestShareOfErrands shows that one writer cannot take all the places of those who wait for
// a validator.
func TestShareOfErrands(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		st := newStage(t, store.Options{})
		create(t, st.join(t, "owner"), "s", store.Config{Write: []string{store.Everyone}, Validator: func(context.Context, *store.Proposal) error { return nil }})
		greedy, modest := view(t, st.join(t, "greedy"), "s"), view(t, st.join(t, "modest"), "s")
		thaw := st.freeze(t, "owner")
		done := make(chan error, 300)
		for range 256 {
			go func() { _, err := greedy.Set(t.Context(), "k", nil); done <- err }()
		}
		synctest.Wait()
		_, err := greedy.Set(t.Context(), "k", nil)
		require.ErrorIs(t, err, store.ErrBusy)
		require.ErrorIs(t, err, store.ErrNotDone)
		go func() { _, err := modest.Set(t.Context(), "k", nil); done <- err }()
		synctest.Wait()
		require.Equal(t, 257, st.Stats().Clients[2].Waiting)
		thaw()
		for range 257 {
			require.NoError(t, <-done)
		}
	})
}
