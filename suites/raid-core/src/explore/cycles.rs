//! I2 on the finished graph: runs that repeat for ever, and users whose scripts can never end.
//!
//! Fairness is strong: a step that is possible again and again is taken at some time. Then every run ends in
//! a component of the graph that no edge leaves, and a user is starved exactly if the end of all users'
//! scripts cannot be reached any more (a user who may wait for ever is starved if it spins). A component that
//! can be left is no starvation, but if the sync thread comes and goes in it, it is churn.

use std::collections::{HashMap, VecDeque};

use crate::explore::finding::Kind;
use crate::explore::graph::{Graph, mark};

const NONE: u32 = u32::MAX;

/// The findings: the kind, a state, and a cycle from that state (or nothing).
pub(crate) fn find(graph: &Graph) -> Vec<(Kind, u32, Vec<u32>)> {
    let n = graph.offsets.len();
    let components = components(graph);
    let n_components = components.iter().map(|component| *component + 1).max().unwrap_or(0) as usize;
    // Tarjan numbers a component after all that it leads to.
    let mut can_end = vec![false; n_components];
    let mut all_can_end = vec![false; n_components];
    let mut marks_any = vec![0_u8; n_components];
    let mut marks_all = vec![0xff_u8; n_components];
    let mut cyclic = vec![false; n_components];
    let mut by_component: Vec<u32> = (0..n as u32).collect();
    by_component.sort_by_key(|state| components[*state as usize]);
    for state in by_component {
        let component = components[state as usize] as usize;
        let marks = graph.marks[state as usize];
        marks_any[component] |= marks;
        marks_all[component] &= marks;
        if marks & mark::DONE != 0 {
            can_end[component] = true;
        }
        if marks & mark::ALL_DONE != 0 {
            all_can_end[component] = true;
        }
        for next in graph.successors(state) {
            let to = components[*next as usize] as usize;
            if to == component {
                cyclic[component] = true;
            } else {
                can_end[component] |= can_end[to];
                all_can_end[component] |= all_can_end[to];
            }
        }
    }
    let mut found = Vec::new();
    let first = |wanted: &dyn Fn(usize) -> bool| {
        (0..n as u32).find(|state| wanted(components[*state as usize] as usize))
    };
    // Who may wait for ever may not spin.
    let starved = |component: usize| !all_can_end[component] && cyclic[component];
    if let Some(state) = first(&starved) {
        found.push((Kind::Livelock, state, cycle(graph, &components, state)));
    }
    let churns = |component: usize| {
        let changes = marks_any[component] & !marks_all[component];
        can_end[component] && cyclic[component] && changes & (mark::SYNC0 | mark::SYNC1) != 0
    };
    if let Some(state) = first(&churns) {
        found.push((Kind::Churn, state, cycle(graph, &components, state)));
    }
    found
}

/// A shortest way from a state back to it within its component.
fn cycle(graph: &Graph, components: &[u32], start: u32) -> Vec<u32> {
    let component = components[start as usize];
    let mut from: HashMap<u32, u32> = HashMap::new();
    let mut queue = VecDeque::from([start]);
    while let Some(state) = queue.pop_front() {
        for next in graph.successors(state) {
            if components[*next as usize] != component {
                continue;
            }
            if *next == start {
                let mut way = vec![start, state];
                let mut at = state;
                while at != start {
                    at = from[&at];
                    way.push(at);
                }
                if state == start {
                    way.truncate(2);
                }
                way.reverse();
                return way;
            }
            if let std::collections::hash_map::Entry::Vacant(vacant) = from.entry(*next) {
                vacant.insert(state);
                queue.push_back(*next);
            }
        }
    }
    Vec::new()
}

/// Tarjan's strongly connected components, without recursion; each state's component.
fn components(graph: &Graph) -> Vec<u32> {
    let n = graph.offsets.len();
    let mut index = vec![NONE; n];
    let mut low = vec![0_u32; n];
    let mut component = vec![NONE; n];
    let mut stack = Vec::new();
    let mut calls: Vec<(u32, u32)> = Vec::new();
    let (mut next_index, mut next_component) = (0, 0);
    for root in 0..n as u32 {
        if index[root as usize] != NONE {
            continue;
        }
        calls.push((root, 0));
        while let Some((state, edge)) = calls.pop() {
            let at = state as usize;
            if edge == 0 {
                index[at] = next_index;
                low[at] = next_index;
                next_index += 1;
                stack.push(state);
            }
            let successors = graph.successors(state);
            let mut edge = edge as usize;
            if edge > 0 {
                let child = successors[edge - 1] as usize;
                low[at] = low[at].min(low[child]);
            }
            let mut descended = false;
            while edge < successors.len() {
                let next = successors[edge] as usize;
                edge += 1;
                if index[next] == NONE {
                    calls.push((state, edge as u32));
                    calls.push((next as u32, 0));
                    descended = true;
                    break;
                }
                if component[next] == NONE {
                    low[at] = low[at].min(index[next]);
                }
            }
            if !descended && low[at] == index[at] {
                loop {
                    let member = stack.pop().expect("a component ends with its root");
                    component[member as usize] = next_component;
                    if member == state {
                        break;
                    }
                }
                next_component += 1;
            }
        }
    }
    component
}
