// Package record keeps the lab's runs in one SQLite file: every finished cell
// of a run as soon as it is finished, so that an interrupted run can go on, and
// every finished run's record as the JSON that `tare reproduce --json` prints.
//
// It implements lab.Store, and compare.Store for the cells of comparisons. Several processes may use one file at once. What is
// in a record, and how it is measured or drawn, is not decided here.
package record
