package hub_test

import (
	"context"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/plugbus/plugbus"
	"github.com/plugbus/plugbus/hub"
	"github.com/plugbus/plugbus/store"
)

// TestWritersAreNotToBlame shows that a writer is quarantined for a flood of writes that
// are rejected, and not for those of which the owner's validator makes nothing.
func TestWritersAreNotToBlame(t *testing.T) {
	for _, test := range []struct {
		validator store.Validator
		state     hub.State
	}{
		{func(context.Context, *store.Proposal) error { return errPlugin }, hub.Quarantined},
		{func(context.Context, *store.Proposal) error { panic("boo") }, hub.Ready},
	} {
		h := open(t, hub.Options{FailureBudget: 1})
		create(t, h.Host(), "words", store.Config{Write: []string{"p"}, Validator: test.validator})
		words := view(t, join(t, h, "p"), "words")
		for range 450 { // 200 are one failure.
			_, err := words.Set(t.Context(), "a", []byte("1"))
			require.ErrorIs(t, err, plugbus.ErrDenied)
		}
		require.Equal(t, test.state, must(snapshotOf(h, "p")).State)
	}
}
