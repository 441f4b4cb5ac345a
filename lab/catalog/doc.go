// Package catalog holds the 68 papers that Tare builds, as data: what each one
// claims, where it stands in the code, which verb runs it, and how its claim
// is measured. One file a family; to add a paper, add its record there.
//
// Pages for readers are made from it by catalog/gen. The experiments themselves
// are in lab, the methods in method.
package catalog

//go:generate go run ./gen ../../docs/papers
