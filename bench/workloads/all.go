package workloads

import "github.com/plugbus/plugbus/bench/compare"

// A Size divides the size of workloads. Figures mean something at 1; more is for
// tests that only show that everything works.
type Size int

// of returns n divided by the size, and at least one.
func (s Size) of(n int) int { return max(n/int(max(s, 1)), 1) }

// All returns all workloads.
func All(size Size) []compare.Workload {
	var all []compare.Workload
	for _, family := range []func(Size) []compare.Workload{
		storeGets,
		storeSets,
		storeOpens,
	} {
		all = append(all, family(size)...)
	}
	return all
}
