package audit_test

import (
	"context"
	"encoding/json"
	"errors"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/plugbus/plugbus"
	"github.com/plugbus/plugbus/audit"
	"github.com/stretchr/testify/require"
)

// TestA7GapFree proves that the numbers of the entries have no gap and agree
// with the order of recording, whoever records.
func TestA7GapFree(t *testing.T) {
	const goroutines, each = 8, 500
	l := newLog(t, audit.Options{CoalesceWithin: apart})
	var wg sync.WaitGroup
	for range goroutines {
		wg.Go(func() {
			before := uint64(0)
			for range each {
				seq, err := l.Record(refused("flood", "x"))
				if err != nil || seq <= before {
					t.Errorf("Record = %d, %v after %d", seq, err, before)
				}
				before = seq
			}
		})
	}
	wg.Wait()
	entries := search(t, l, audit.Query{Order: audit.OldestFirst, Limit: goroutines*each + 1}).Entries
	require.Len(t, entries, goroutines*each)
	for i, e := range entries {
		require.EqualValues(t, i+1, e.Seq)
	}
}

// TestA7Time proves that a time keeps its wall and its monotonic reading.
func TestA7Time(t *testing.T) {
	l := newLog(t, audit.Options{})
	now := time.Now()
	e := refused("a", "x")
	e.Time = now
	got, _ := l.Get(record(t, l, e))
	require.Equal(t, now, got.Time)
	require.Equal(t, now.String(), got.Time.String(), "the monotonic reading is a part of the text")
	require.Equal(t, now, got.Last)

	synctest.Test(t, func(t *testing.T) {
		got, _ := l.Get(record(t, l, refused("b", "x")))
		require.Equal(t, time.Now(), got.Time, "the log stamps a zero time")
		require.EqualValues(t, 1, got.Count)
	})
}

// TestA8Copies proves that neither the recorder nor a reader holds what the log
// holds.
func TestA8Copies(t *testing.T) {
	var fromSink []audit.Entry
	l := newLog(t, audit.Options{Sinks: []audit.SinkOptions{
		{Name: "vandal", Sink: audit.SinkFunc(func(_ context.Context, e audit.Entry) error {
			e.Details[0].Value = "changed by a sink"
			return nil
		})},
		{Name: "keeper", Sink: audit.SinkFunc(func(_ context.Context, e audit.Entry) error {
			fromSink = append(fromSink, e)
			return nil
		})},
	}})
	e := refused("a", "x")
	e.Details = []audit.Detail{{"bytes", "17"}}
	seq := record(t, l, e)

	e.Details[0].Value = "changed by the recorder"
	got, _ := l.Get(seq)
	got.Details[0].Value = "changed by a reader"
	search(t, l, audit.Query{}).Entries[0].Details[0].Value = "changed by a search"
	recent, err := l.Recent(1)
	require.NoError(t, err)
	recent[0].Details[0].Value = "changed by another reader"
	require.NoError(t, l.Close(t.Context()))

	want := []audit.Detail{{"bytes", "17"}}
	got, _ = l.Get(seq)
	require.Equal(t, want, got.Details)
	require.Equal(t, want, search(t, l, audit.Query{}).Entries[0].Details)
	require.Equal(t, want, fromSink[0].Details)
}

// TestA13Bounds proves that an entry is bounded text, and says what is left out.
func TestA13Bounds(t *testing.T) {
	details := func(n, size int) []audit.Detail {
		all := make([]audit.Detail, n)
		for i := range all {
			all[i] = audit.Detail{Key: "k", Value: strings.Repeat("v", size)}
		}
		return all
	}
	l := newLog(t, audit.Options{CoalesceWithin: apart})
	for _, test := range []struct {
		details []audit.Detail
		kept    int
		omitted string
	}{
		{details(0, 1), 0, ""},
		{details(16, 1), 16, ""},
		{details(17, 1), 15, "2"},
		{details(100, 1), 15, "85"},
		{details(4, 1023), 4, ""},
		{details(4, 1024), 3, "1"},
		{details(9, 1_000_000), 3, "6"},
	} {
		e := refused("a", strings.Repeat("x", 1_000_000))
		e.Details = test.details
		got, _ := l.Get(record(t, l, e))
		if test.omitted != "" {
			last := len(got.Details) - 1
			require.Equal(t, audit.Detail{Key: "omitted", Value: test.omitted}, got.Details[last])
			got.Details = got.Details[:last]
		}
		require.Len(t, got.Details, test.kept)
		require.LessOrEqual(t, len(got.Target), plugbus.MaxTextBytes)
	}
}

func TestOptions(t *testing.T) {
	nop := audit.SinkFunc(func(context.Context, audit.Entry) error { return nil })
	_, err := audit.New(audit.Options{
		Capacity: -1, AdminCapacity: audit.MaxCapacity + 1,
		Sinks: []audit.SinkOptions{
			{Sink: nop},
			{Name: "file", Sink: nop, Queue: -5},
			{Name: "file", Sink: audit.SinkFunc(nil)},
			{Name: "none"},
		},
	})
	require.ErrorIs(t, err, plugbus.ErrInvalid)
	for _, want := range []string{
		"Capacity is -1", "AdminCapacity is 10000001", `Sinks[0] "" has no name`, `Sinks[1] "file": Queue is -5`,
		`Sinks[2] "file": another sink has that name`, `Sinks[2] "file" is nil`, `Sinks[3] "none" is nil`,
	} {
		require.ErrorContains(t, err, want, "all mistakes are reported at once")
	}

	l := newLog(t, audit.Options{})
	require.Equal(t, audit.DefaultCapacity, l.Stats().Capacity)
	require.Equal(t, audit.DefaultAdminCapacity, l.Stats().AdminCapacity)
}

// TestClosing proves that a closed log refuses records, and can be read and
// closed again.
func TestClosing(t *testing.T) {
	l := newLog(t, audit.Options{})
	seq := record(t, l, refused("a", "x"))
	require.NoError(t, l.Close(t.Context()))
	require.NoError(t, l.Close(t.Context()))

	got, err := l.Record(refused("a", "x"))
	require.ErrorIs(t, err, plugbus.ErrClosed)
	require.Zero(t, got)
	_, ok := l.Get(seq)
	require.True(t, ok)
	require.Len(t, search(t, l, audit.Query{}).Entries, 1)
}

// TestJSON proves that an entry survives JSON, with words for the enumerations.
func TestJSON(t *testing.T) {
	l := newLog(t, audit.Options{})
	for _, e := range []audit.Entry{refused("a", "x"), {Event: "policy.swapped", Actor: "host", Admin: true}} {
		e.Time = time.Date(2026, 11, 21, 1, 2, 3, 4, time.UTC)
		want, _ := l.Get(record(t, l, e))
		text, err := json.Marshal(want)
		require.NoError(t, err)
		var got audit.Entry
		require.NoError(t, json.Unmarshal(text, &got))
		require.Equal(t, want, got)
	}
	text, err := json.Marshal(search(t, l, audit.Query{Actor: "a"}).Entries[0])
	require.NoError(t, err)
	require.JSONEq(t, `{"seq":1, "time":"2026-11-21T01:02:03.000000004Z", "event":"emit.refused", "actor":"a", "target":"x",
		"verb":"emit", "outcome":"refused", "reason":"denied_by_rule", "count":1, "last":"2026-11-21T01:02:03.000000004Z"}`, string(text))
}

// TestStamps proves that a recorder cannot choose what the log stamps.
func TestStamps(t *testing.T) {
	l := newLog(t, audit.Options{})
	e := refused("a", "x")
	e.Seq, e.Unconfirmed, e.Last = 99, true, time.Now().Add(-time.Hour)
	got, ok := l.Get(record(t, l, e))
	require.True(t, ok)
	require.EqualValues(t, 1, got.Seq)
	require.False(t, got.Unconfirmed)
	require.Equal(t, got.Time, got.Last)
	_, ok = l.Get(99)
	require.False(t, ok)
	require.False(t, errors.Is(plugbus.ErrClosed, audit.ErrUnavailable))
}
