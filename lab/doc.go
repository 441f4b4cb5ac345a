// Package lab runs one experiment a paper and says whether its claim held.
//
// An [Experiment] names a claim, the figure the claim is about, the arms (the
// paper's method and its baselines, all with the same budget), how many seeds
// to draw and the [Rule] that turns the measured values into a verdict. The
// rule is part of the experiment, so it is fixed before the first run. [Run]
// goes through arms and seeds, keeps every finished cell in a [Store] so that
// an interrupted run can go on, and returns a [Record].
//
// Here live the harness, its statistics and its rules, and one file for each
// paper's experiment (bone.go, paca.go, …), listed in experiments.go. The
// papers as data live in lab/catalog, the stored records in lab/record; how a
// record is drawn is the business of the app floor.
package lab
