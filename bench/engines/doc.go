// Package engines holds what the workloads of stores measure: the stores of this
// project behind all their checks, and beside them what they are compared with, used
// bare. Each is driven as its documentation asks for, in a mode where a write that
// returned survives the death of the machine; [Map] alone keeps nothing.
//
//	engine, err := engines.OpenBolt(dir)
//	err = engine.Fill(engines.Pairs(1000))
//	sum, err := engine.Sum(keys) // gets each key once
//	err = engine.Close()
//
// Sum has the loop of a caller in it, and no interface inside of the loop, so that a
// get of 20 ns is measured and not the way to it. What it returns proves that every
// value was really got.
//
// The methods of an engine may be called by several goroutines, except for Close.
package engines
