package audit_test

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/plugbus/plugbus/audit"
)

// BenchmarkRecord measures a record with the time of the act, as the hub gives
// it. The log is full, so each fresh entry evicts one (A4: the cost does not
// grow with the capacity).
func BenchmarkRecord(b *testing.B) {
	for _, capacity := range []int{100, 10_000, 1_000_000} {
		b.Run(fmt.Sprintf("fresh/capacity=%d", capacity), func(b *testing.B) {
			l := newLog(b, audit.Options{Capacity: capacity})
			e := refused("flood", "billing.paid")
			e.Time = time.Now()
			for range capacity {
				e.Time = e.Time.Add(time.Second)
				record(b, l, e)
			}
			b.ReportAllocs()
			for b.Loop() {
				e.Time = e.Time.Add(time.Second)
				_, _ = l.Record(e)
			}
		})
	}
	b.Run("coalesced", func(b *testing.B) {
		l := newLog(b, audit.Options{})
		e := refused("flood", "billing.paid")
		e.Time = time.Now()
		b.ReportAllocs()
		for b.Loop() {
			_, _ = l.Record(e)
		}
	})
	b.Run("coalesced/parallel", func(b *testing.B) {
		l := newLog(b, audit.Options{})
		e := refused("flood", "billing.paid")
		e.Time = time.Now()
		b.ReportAllocs()
		b.RunParallel(func(pb *testing.PB) {
			for pb.Next() {
				_, _ = l.Record(e)
			}
		})
	})
	b.Run("fresh/sinks=1", func(b *testing.B) {
		nop := audit.SinkFunc(func(context.Context, audit.Entry) error { return nil })
		l := newLog(b, audit.Options{Sinks: []audit.SinkOptions{{Name: "nop", Sink: nop}}})
		e := refused("flood", "billing.paid")
		e.Time = time.Now()
		b.ReportAllocs()
		for b.Loop() {
			e.Time = e.Time.Add(time.Second)
			_, _ = l.Record(e)
		}
	})
}

// BenchmarkSearch measures searches of a full log.
func BenchmarkSearch(b *testing.B) {
	l := newLog(b, audit.Options{CoalesceWithin: apart})
	for i := range audit.DefaultCapacity {
		record(b, l, refused(fmt.Sprint("plugin-", i%100), "billing.paid"))
	}
	for range audit.DefaultCapacity {
		record(b, l, refused("flood", "billing.paid"))
	}
	for _, q := range []audit.Query{
		{},
		{Actor: "plugin-7"},
		{Event: "emit.*", Actor: "plugin-7"},
		{Event: "send.*"},
		{MinSeq: 2*audit.DefaultCapacity - 200, Order: audit.OldestFirst}, // what is new, after a gap
	} {
		b.Run(fmt.Sprintf("event=%s/actor=%s/from=%d", q.Event, q.Actor, q.MinSeq), func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if _, err := l.Search(q); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
