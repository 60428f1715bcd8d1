"""How well label maps agree with references: DSC, NSD, two protocols, a report."""
