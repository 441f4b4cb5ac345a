package catalog

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"tare/engine/nearest"
)

// State says how far a paper has come.
type State string

// A paper is planned until its method works, runs once its experiment can be
// run, and is measured once the record of a full run is published with it.
const (
	Planned  State = "planned"
	Runs     State = "runs"
	Measured State = "measured"
)

// Paper is one paper of the catalog.
type Paper struct {
	Number int    `json:"number"` // 1 to 68, in the order of the original feed
	Slug   string `json:"slug"`   // its name everywhere: files, commands, pages
	Title  string `json:"title"`  // as its authors wrote it
	Family string `json:"family"` // the folder of its method
	State  State  `json:"state"`
	API    string `json:"api"`   // the Go identifier to start from, package and name
	Verb   string `json:"verb"`  // the command that uses it
	Claim  string `json:"claim"` // what it says, with its own figures, in our words
	Docs   string `json:"docs"`  // its page, from the root of the repository

	// Plan is how its claim is measured.
	Plan Plan `json:"-"`
}

// Plan is how a paper's claim is measured.
type Plan struct {
	// Test is the experiment that the family shares, where it does.
	Test Test
	// Own is what is particular to this paper's experiment.
	Own string
	// Baselines are what the method is compared with, at the same budget.
	Baselines string
}

// Test is an experiment that several papers share: its name and what it is.
type Test struct{ Name, Text string }

// ErrUnknown marks a slug that no paper has.
var ErrUnknown = errors.New("unknown paper")

// family is a folder of methods and its papers.
type family struct {
	name   string
	papers []Paper
}

// families lists the families in the order of the method folder.
func families() []family {
	return []family{
		{"adapt", adapt()}, {"optim", optim()}, {"quant", quant()}, {"sparse", sparse()},
		{"merge", merge()}, {"continual", continual()}, {"prefer", prefer()}, {"unlearn", unlearn()},
		{"semi", semi()}, {"federate", federate()}, {"dynamics", dynamics()},
		{"bayes", bayes()}, {"stats", statistics()}, {"optimize", optimize()},
	}
}

// All returns every paper in the order of its number. The slice is the
// caller's own.
func All() []Paper {
	var out []Paper
	for _, f := range families() {
		for _, p := range f.papers {
			p.Family = f.name
			p.Docs = "docs/papers/" + p.Slug + ".md"
			if p.State == "" {
				p.State = Planned
			}
			out = append(out, p)
		}
	}
	slices.SortFunc(out, func(a, b Paper) int { return a.Number - b.Number })
	return out
}

// Families returns the names of the families in their order.
func Families() []string {
	var out []string
	for _, f := range families() {
		out = append(out, f.name)
	}
	return out
}

// BySlug returns the paper of that slug. The error for a slug that no paper
// has wraps [ErrUnknown] and suggests the nearest one.
func BySlug(slug string) (Paper, error) {
	papers := All()
	known := make([]string, len(papers))
	for i, p := range papers {
		if p.Slug == slug {
			return p, nil
		}
		known[i] = p.Slug
	}
	if near := nearest.Of(strings.ToLower(slug), known); near != "" {
		return Paper{}, fmt.Errorf("catalog: %w %q, did you mean %q? `tare papers` lists them all", ErrUnknown, slug, near)
	}
	return Paper{}, fmt.Errorf("catalog: %w %q, `tare papers` lists them all", ErrUnknown, slug)
}
