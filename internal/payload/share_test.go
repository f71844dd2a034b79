package payload_test

import (
	"context"
	"database/sql"
	"net/http"
	"sync"
	"sync/atomic"
	"testing"
	"time"
	"unsafe"

	"github.com/stretchr/testify/require"

	"github.com/plugbus/plugbus"
	"github.com/plugbus/plugbus/internal/payload"
)

type cache struct {
	Mu      sync.RWMutex
	Entries map[string][]*node
	Last    atomic.Pointer[node]
	Rest    sync.Map
	Any     any
}

func TestShared(t *testing.T) {
	granted := &plugbus.PayloadRules{Shared: true, MaxBytes: 1, MaxNodes: 1, Content: plugbus.CheckAll}
	for _, v := range []any{nil, 1, "<script>", &node{}, map[string]int{}, &cache{}, hidesMap{}, []any{func() {}}} {
		_, _, err := payload.Freeze(plugbus.Shared(v), &plugbus.PayloadRules{})
		var refusal *payload.Error
		require.ErrorAs(t, err, &refusal)
		require.Equal(t, plugbus.ReasonSharedNotGranted, refusal.Reason)
		_, _, err = payload.Freeze(plugbus.Shared(v), nil)
		require.Error(t, err)

		// What an interface holds is not looked at: others may be writing to it.
		frozen, size, err := payload.Freeze(plugbus.Shared(v), granted)
		require.NoError(t, err, "%T", v)
		require.Zero(t, size)
		require.True(t, payload.IsShared(frozen))
		require.Equal(t, v, payload.Thaw(frozen))
	}

	mine := &node{}
	frozen, _, err := payload.Freeze(plugbus.Shared(mine), granted)
	require.NoError(t, err)
	require.Same(t, mine, payload.Thaw(frozen))
}

func TestSharedRefused(t *testing.T) {
	granted := &plugbus.PayloadRules{Shared: true}
	for _, test := range []struct {
		v    any
		want string
	}{
		{func() {}, "payload (func()): a function may not be sent, not even by plugbus.Shared"},
		{make(chan int), "payload (chan int): a channel may not"},
		{unsafe.Pointer(nil), "payload (unsafe.Pointer): an unsafe pointer may not"},
		{context.Background(), "payload (context.backgroundCtx): a context may not"},
		{map[string]*context.Context{}, "payload[*] (context.Context): a context"},
		{&http.Client{}, "payload.CheckRedirect (func("},
		{&sql.DB{}, "payload."},
		{time.NewTimer(0), "payload.C (<-chan time.Time): a channel"},
		{&sync.Pool{}, "payload.New (func() interface {}): a function"},
		{&atomic.Pointer[func()]{}, "payload._[*] (func()): a function"},
		{map[string][]struct{ done chan int }{}, "payload[*][*].done (chan int): a channel"},
		{map[chan int]int{}, "payload[key] (chan int): a channel"},
		{plugbus.Shared(1), "payload (plugbus.SharedValue): plugbus.Shared wraps a whole payload"},
	} {
		for range 2 { // The verdict is kept, and does not change with use.
			_, _, err := payload.Freeze(plugbus.Shared(test.v), granted)
			var refusal *payload.Error
			require.ErrorAs(t, err, &refusal, "%T", test.v)
			require.Equal(t, plugbus.ReasonInvalidPayload, refusal.Reason)
			require.Equal(t, test.want, err.Error()[:min(len(test.want), len(err.Error()))])
		}
	}
}
