"""From messages of InspectionService to tables and sentences. Pure."""
