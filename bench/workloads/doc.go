// Package workloads holds what is compared: for each part of the bus what it does
// most, beside peers that do as much of it as they can.
//
//	report, err := compare.Run(ctx, workloads.All(1), compare.Options{})
//
// # Stores
//
//   - store/get gets values of 100 bytes by keys of 16, the same key each time (hot) or
//     100,000 keys in random order, by one reader or by as many as there are processors.
//     Ours passes all checks of a hub. Values are read in place; copied is the same
//     with a copy of each, on both sides.
//   - store/set writes such pairs durably. Each round begins with an empty directory.
//     When it has ended the directory is closed and opened again, and must hold every
//     pair. That it does so after a crash too is shown by the tests of the stores.
//   - store/open opens a directory with 100,000 pairs, until every get would be
//     answered from memory. The files are in the system's cache.
//
// # To add a workload
//
// Write a file with a function that returns workloads of the size that it is given,
// and add it to the list in all.go. Let every round check that its work was done.
package workloads
