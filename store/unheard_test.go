package store_test

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/plugbus/plugbus/store"
)

// TestVerdictThatNobodyHears shows that a validator which panics when its writer has gone
// holds up its worker no longer than that: the next write is asked about (D11).
func TestVerdictThatNobodyHears(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		st := newStage(t, store.Options{})
		gate, calls := make(chan struct{}), 0
		owner := create(t, st.join(t, "owner"), "s", store.Config{Write: []string{"writer"}, Validator: func(context.Context, *store.Proposal) error {
			if calls++; calls == 1 {
				<-gate
				panic("boo")
			}
			return nil
		}})
		v := view(t, st.join(t, "writer"), "s")
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		_, err := v.Set(ctx, "k", nil)
		require.ErrorIs(t, err, context.DeadlineExceeded)
		close(gate)
		synctest.Wait()
		require.Len(t, st.failed(), 1)
		set(t, v, "k", "1")
		set(t, owner, "k", "2")
		require.Equal(t, 3, calls)
		require.Empty(t, st.Leaks())
	})
}
