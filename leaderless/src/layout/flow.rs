//! The placement itself: a flow of replicas from partitions through racks to nodes, of least cost.
//!
//! A replica that stays where it is costs nothing, a new one costs one. The flow starts from the
//! replicas that can stay, which is the cheapest flow of its size, and grows along shortest paths;
//! so it is the cheapest at every size, and the last one has the fewest moves (Busacker and Gowen
//! 1960). Almost all steps are direct; a search over the whole region is the exception.

use std::collections::VecDeque;

use xxhash_rust::xxh3::xxh3_64_with_seed;

use super::quotas::{Place, RackBounds};

/// The replicas of one region while they are placed. Nodes and racks by number.
pub(super) struct Flow<'a> {
    places: &'a [Place],
    bounds: &'a [RackBounds],
    factor: usize,
    /// Slots that each node has left.
    spare: Vec<u32>,
    /// Where each partition is now, before the plan.
    before: &'a [Vec<usize>],
    /// Where each partition is placed.
    rows: Vec<Vec<usize>>,
    /// Which places each rack has.
    members: Vec<Vec<usize>>,
}

/// A step of a search: a unit of flow arrives at a vertex.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Vertex {
    /// A partition lacks a replica that may go to any rack.
    Free(usize),
    /// A partition lacks a replica in this rack.
    Rack(usize, usize),
    /// A node gets one replica more.
    Node(usize),
}

impl<'a> Flow<'a> {
    pub(super) fn new(
        places: &'a [Place],
        bounds: &'a [RackBounds],
        quotas: &[u32],
        before: &'a [Vec<usize>],
        factor: usize,
    ) -> Self {
        let mut members = vec![Vec::new(); bounds.len()];
        for (at, place) in places.iter().enumerate() {
            members[place.rack].push(at);
        }
        let rows = vec![Vec::with_capacity(factor); before.len()];
        Self { places, bounds, factor, spare: quotas.to_vec(), before, rows, members }
    }

    /// Places everything; the rows by place number.
    pub(super) fn run(mut self) -> Vec<Vec<usize>> {
        let complete = self.keep();
        if !complete {
            while self.augment(0) {}
        }
        self.direct();
        while self.augment(i32::MAX) {}
        #[cfg(test)]
        assert!(self.rows.len() > 64 || self.is_cheapest(), "a plan with fewer moves exists");
        self.rows
    }

    /// Whether no placement with these quotas has fewer moves: there is no way round on which
    /// replicas change places and moves are saved (no negative cycle, Klein 1967).
    #[cfg(test)]
    fn is_cheapest(&self) -> bool {
        let partitions = 0..self.rows.len();
        let racks = 0..self.bounds.len();
        let free = partitions.clone().map(Vertex::Free);
        let rack = partitions.flat_map(|p| racks.clone().map(move |r| Vertex::Rack(p, r)));
        let nodes = (0..self.places.len()).map(Vertex::Node);
        let all: Vec<Vertex> = free.chain(rack).chain(nodes).collect();
        let mut distance = vec![0; all.len()];
        for _ in 0..=all.len() {
            let mut shorter = false;
            for vertex in &all {
                let so_far = distance[self.number(*vertex)];
                for (next, cost) in self.edges(*vertex) {
                    let known = &mut distance[self.number(next)];
                    shorter |= so_far + cost < *known;
                    *known = (*known).min(so_far + cost);
                }
            }
            if !shorter {
                return true;
            }
        }
        false
    }

    fn in_rack(&self, partition: usize, rack: usize) -> usize {
        self.rows[partition].iter().filter(|at| self.places[**at].rack == rack).count()
    }

    /// Replicas of the partition that are beyond the mandatory ones of their racks.
    fn optional(&self, partition: usize) -> usize {
        let over = |(rack, bound): (usize, &RackBounds)| {
            self.in_rack(partition, rack).saturating_sub(bound.least as usize)
        };
        self.bounds.iter().enumerate().map(over).sum()
    }

    fn optional_limit(&self) -> usize {
        self.factor - self.bounds.iter().map(|bound| bound.least as usize).sum::<usize>()
    }

    /// Whether the partition may have one more replica in the rack.
    fn takes(&self, partition: usize, rack: usize) -> bool {
        let held = self.in_rack(partition, rack);
        held < self.bounds[rack].least as usize
            || held < self.bounds[rack].most as usize
                && self.optional(partition) < self.optional_limit()
    }

    fn put(&mut self, partition: usize, at: usize) {
        self.rows[partition].push(at);
        self.spare[at] -= 1;
    }

    /// Keeps what can stay; whether that is certainly the most that can.
    fn keep(&mut self) -> bool {
        let before = self.before;
        let mut over: Vec<u32> = vec![0; self.places.len()];
        for at in before.iter().flatten() {
            over[*at] += 1;
        }
        let most: u32 = over.iter().zip(&self.spare).map(|(had, quota)| *had.min(quota)).sum();
        let mut kept = 0;
        for partition in order(before.len()) {
            for &at in &before[partition] {
                if self.spare[at] > 0 && self.takes(partition, self.places[at].rack) {
                    self.put(partition, at);
                    kept += 1;
                }
            }
        }
        kept == most
    }

    /// Puts missing replicas where there is room, the tightest rack and node first.
    fn direct(&mut self) {
        let mut room: Vec<u64> = vec![0; self.bounds.len()];
        for (place, spare) in self.places.iter().zip(&self.spare) {
            room[place.rack] += u64::from(*spare);
        }
        for partition in order(self.rows.len()) {
            while self.rows[partition].len() < self.factor {
                let fits = |at: &usize| {
                    self.spare[*at] > 0
                        && !self.rows[partition].contains(at)
                        && self.takes(partition, self.places[*at].rack)
                };
                let tightness = |at: &usize| {
                    let rack = self.places[*at].rack;
                    let rack_need = room[rack] / u64::from(self.bounds[rack].most.max(1));
                    let need = rack_need.max(u64::from(self.spare[*at]));
                    (need, self.spare[*at], mix(partition, *at))
                };
                let Some(at) = (0..self.places.len()).filter(fits).max_by_key(tightness) else {
                    break;
                };
                self.put(partition, at);
                room[self.places[at].rack] -= 1;
            }
        }
    }

    fn number(&self, vertex: Vertex) -> usize {
        let (partitions, racks) = (self.rows.len(), self.bounds.len());
        match vertex {
            Vertex::Free(partition) => partition,
            Vertex::Rack(partition, rack) => partitions + partition * racks + rack,
            Vertex::Node(at) => partitions * (1 + racks) + at,
        }
    }

    fn cost(&self, partition: usize, at: usize) -> i32 {
        i32::from(!self.before[partition].contains(&at))
    }

    /// One unit more along a shortest path of at most `limit`; whether there was one.
    fn augment(&mut self, limit: i32) -> bool {
        let vertices = self.rows.len() * (1 + self.bounds.len()) + self.places.len();
        let mut distance = vec![i32::MAX; vertices];
        let mut from: Vec<Option<Vertex>> = vec![None; vertices];
        let mut queued = vec![false; vertices];
        let mut queue = VecDeque::new();
        for partition in 0..self.rows.len() {
            if self.rows[partition].len() == self.factor {
                continue;
            }
            let racks = (0..self.bounds.len())
                .filter(|rack| self.in_rack(partition, *rack) < self.bounds[*rack].least as usize)
                .map(|rack| Vertex::Rack(partition, rack));
            let free = (self.optional(partition) < self.optional_limit())
                .then_some(Vertex::Free(partition));
            for vertex in racks.chain(free) {
                distance[self.number(vertex)] = 0;
                queue.push_back(vertex);
            }
        }
        while let Some(vertex) = queue.pop_front() {
            queued[self.number(vertex)] = false;
            let so_far = distance[self.number(vertex)];
            for (next, cost) in self.edges(vertex) {
                let number = self.number(next);
                if so_far + cost < distance[number] {
                    distance[number] = so_far + cost;
                    from[number] = Some(vertex);
                    if !std::mem::replace(&mut queued[number], true) {
                        queue.push_back(next);
                    }
                }
            }
        }
        let ends = (0..self.places.len()).filter(|at| self.spare[*at] > 0);
        let reached = ends.map(|at| (distance[self.number(Vertex::Node(at))], at));
        let Some((cost, end)) = reached.min() else { return false };
        if cost == i32::MAX || cost > limit {
            return false;
        }
        self.spare[end] -= 1;
        let mut vertex = Vertex::Node(end);
        while let Some(step) = from[self.number(vertex)] {
            match (step, vertex) {
                (Vertex::Rack(partition, _), Vertex::Node(at)) => self.rows[partition].push(at),
                (Vertex::Node(at), Vertex::Rack(partition, _)) => {
                    self.rows[partition].retain(|other| *other != at);
                }
                _ => {}
            }
            vertex = step;
        }
        true
    }

    /// Where a unit of flow can go from here, and what that costs.
    fn edges(&self, vertex: Vertex) -> Vec<(Vertex, i32)> {
        match vertex {
            // Any rack with room takes a free unit.
            Vertex::Free(partition) => (0..self.bounds.len())
                .filter(|rack| self.in_rack(partition, *rack) < self.bounds[*rack].most as usize)
                .map(|rack| (Vertex::Rack(partition, rack), 0))
                .collect(),
            // A node of the rack takes it; or the rack gives a free unit back.
            Vertex::Rack(partition, rack) => {
                let row = &self.rows[partition];
                let nodes = self.members[rack].iter().filter(|at| !row.contains(at));
                let mut edges: Vec<_> =
                    nodes.map(|at| (Vertex::Node(*at), self.cost(partition, *at))).collect();
                if self.in_rack(partition, rack) > self.bounds[rack].least as usize {
                    edges.push((Vertex::Free(partition), 0));
                }
                edges
            }
            // A full node gives one of its replicas back.
            Vertex::Node(at) => {
                let held = self.rows.iter().enumerate().filter(|(_, row)| row.contains(&at));
                let rack = self.places[at].rack;
                held.map(|(partition, _)| {
                    (Vertex::Rack(partition, rack), -self.cost(partition, at))
                })
                .collect()
            }
        }
    }
}

/// The order in which partitions are looked at: a fixed shuffle, so that what a node gains or
/// loses is spread over all of them.
fn order(partitions: usize) -> impl Iterator<Item = usize> {
    let mut all: Vec<usize> = (0..partitions).collect();
    all.sort_by_key(|partition| mix(*partition, 0));
    all.into_iter()
}

/// A tie between nodes that changes from partition to partition, so that the partners of a node
/// are many and share its load when it is away.
fn mix(partition: usize, place: usize) -> u64 {
    xxh3_64_with_seed(&(partition as u64).to_le_bytes(), place as u64)
}
